"""The Autobahn test suite against ``/ws``, where it is installed.

It is a program for Python 2.7: ``pip install autobahntestsuite==0.8.2`` there, and let ``BASE04_TEST_WSTEST`` be the
path of ``wstest``. ``test_websocket_frames`` tries the same sections of RFC 6455 without it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from serve_kit import Server

Serve = Callable[..., Server]

GOOD = {"OK", "NON-STRICT", "INFORMATIONAL"}
ECHOES = {"5.20"}
"""Cases that expect an echo without the word: they say that they are the same as the one before."""

STRICTER = {"7.1.5"}
"""A close in the middle of a message is answered with 1002, where 1000 is expected."""

TIMEOUT_S = 600.0


@pytest.fixture
def wstest() -> str:
    found = os.environ.get("BASE04_TEST_WSTEST") or shutil.which("wstest")
    if found is None:
        pytest.skip("There is no wstest: let BASE04_TEST_WSTEST be its path.")
    return found


def test_host_passes_what_needs_no_echo_and_survives_the_rest(serve: Serve, tmp_path: Path, wstest: str) -> None:
    """It never gets a token, so that whatever is well-formed and no ``auth`` ends with an error, not with an echo."""
    server = serve(tmp_path / "host")
    specification = {
        "outdir": str(tmp_path / "reports"),
        "servers": [{"agent": "base04", "url": server.url.replace("http", "ws") + "/ws"}],
        "cases": [f"{section}.*" for section in (1, 2, 3, 4, 5, 6, 7, 10)],
        "exclude-cases": [],
        "exclude-agent-cases": {},
    }
    (tmp_path / "cases.json").write_text(json.dumps(specification))
    command = [wstest, "-m", "fuzzingclient", "-s", str(tmp_path / "cases.json")]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, timeout=TIMEOUT_S)
    results = json.loads((tmp_path / "reports" / "index.json").read_text())["base04"]
    unexpected = {}
    for case, verdict in results.items():
        report = json.loads((tmp_path / "reports" / verdict["reportfile"]).read_text())
        known = case in ECHOES | STRICTER or "echo" in report["expectation"].lower()
        if not known and not {verdict["behavior"], verdict["behaviorClose"]} <= GOOD:
            unexpected[case] = report["result"]
    assert unexpected == {}
    assert len(results) > 200
    with server.client() as client:
        assert client.get("/health/ready").json() == {"status": "ready"}
    assert server.stop() == 0
