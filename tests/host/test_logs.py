from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

SCRIPT = """
    import logging
    import structlog
    from base04.logs import configure
    from base04.settings import LogSettings
    from base04_hookspecs import RequestContext
    from base04_hookspecs.context import use_request

    configure(LogSettings({settings}))
    log = structlog.get_logger()
    log.debug("a detail")
    log.info("an event", key="value")
    with use_request(RequestContext("request-1")):
        log.warning("in a request")
        logging.getLogger("library").warning("of a %s", "library")
    secret = "the value of a variable"
    try:
        1 / 0
    except ZeroDivisionError:
        log.exception("it failed")
        logging.getLogger("library").exception("it failed too")
    logging.getLogger("library").info("a library talks")
"""


def logged(tmp_path: Path, settings: str = "") -> str:
    """Log in a process of its own, whose standard error is no terminal, and return what it wrote there."""
    script = textwrap.dedent(SCRIPT).replace("{settings}", settings)
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == ""
    return done.stderr


def test_log_is_one_json_object_a_line_for_libraries_too(tmp_path: Path) -> None:
    events: list[dict[str, Any]] = [json.loads(line) for line in logged(tmp_path).splitlines()]
    assert [(event["event"], event["level"]) for event in events] == [
        ("an event", "info"),
        ("in a request", "warning"),
        ("of a library", "warning"),
        ("it failed", "error"),
        ("it failed too", "error"),
    ]
    assert [event.get("request_id") for event in events] == [None, "request-1", "request-1", None, None]
    assert events[0]["key"] == "value"
    assert events[2]["logger"] == "library"
    assert all("ZeroDivisionError" in event["exception"] for event in events[3:])
    assert all(event["timestamp"].endswith("Z") for event in events)


def test_log_for_people_has_tracebacks_without_values(tmp_path: Path) -> None:
    text = logged(tmp_path, "format='console', level='debug'")
    assert "a detail" in text
    assert text.count("ZeroDivisionError: division by zero") == 2
    assert "the value of a variable" not in text.replace('secret = "the value of a variable"', "")
    assert not text.lstrip().startswith("{")


def test_level_leaves_out_what_is_below_it(tmp_path: Path) -> None:
    events = [json.loads(line)["event"] for line in logged(tmp_path, "level='error'").splitlines()]
    assert events == ["it failed", "it failed too"]
