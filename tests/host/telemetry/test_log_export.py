"""Log events that a collector gets, whatever is in them."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from base04.telemetry.log_sinks import add_sink, hand_on, remove_sink
from otlp_kit import Collector

SCRIPT = """
    import asyncio
    import logging
    import sys

    import structlog
    from base04.app_manager import AppManager
    from base04.logs import configure
    from base04.settings import LogSettings




    async def main():
        settings = {"data_dir": "data", "telemetry": {"endpoint": sys.argv[1], "traces": False}}
        log = structlog.get_logger()
        async with AppManager(settings, only=["hooks"]):
            log.info("plain", number=1, share=0.5, told=True, big=2**70, items=[1, "two"])
            log.info("not unicode", path="a\\udcff")
            logging.getLogger("library").warning("of a %s\\udc80", "library")
            logging.getLogger("opentelemetry.sdk").warning("about itself")
            try:
                raise LookupError("gone")
            except LookupError:
                log.exception("it failed")
                logging.getLogger("library").exception("it failed too")
        log.info("after the end")


    configure(LogSettings(format=sys.argv[2]))
    asyncio.run(main())
"""


@pytest.fixture
def collector() -> Iterator[Collector]:
    with Collector() as running:
        yield running


@pytest.mark.parametrize("form", ["json", "console"])
def test_every_event_arrives_as_it_can(tmp_path: Path, collector: Collector, form: str) -> None:
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), collector.url, form]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    found = {record.body: record for record in collector.records}
    assert found.keys() >= {"plain", "not unicode", "of a library\\udc80", "it failed", "it failed too"}
    assert "about itself" not in found
    assert "after the end" not in found
    plain = found["plain"].attributes
    assert (plain["number"], plain["share"], plain["told"]) == (1, 0.5, True)
    assert (plain["big"], plain["items"]) == (str(2**70), "[1, 'two']")
    assert found["not unicode"].attributes["path"] == "a\\udcff"
    for body, logger in (("it failed", None), ("it failed too", "library")):
        record = found[body]
        assert record.severity == "ERROR"
        assert record.attributes.get("logger") == logger
        assert record.attributes["exception.type"] == "LookupError"
        assert "LookupError: gone" in record.attributes["exception.stacktrace"]
    if form == "json":
        assert "after the end" in [json.loads(line)["event"] for line in done.stderr.splitlines()]


def test_sink_gets_events_until_it_is_removed() -> None:
    taken: list[str] = []

    def take(event: object) -> None:
        taken.append(str(event))

    add_sink(take)
    hand_on(None, "info", {"event": "first"})
    remove_sink(take)
    hand_on(None, "info", {"event": "second"})
    assert taken == ["{'event': 'first'}"]
