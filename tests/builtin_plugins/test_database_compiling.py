"""A host starts, and counts, without what compiles statements."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from serve_kit import PATIENCE_S, environment

PROGRAM = """
import asyncio, sys, threading
from base04 import AppManager
from base04_hookspecs.errors import InvalidInput

async def main():
    async with AppManager({"log": {"level": "error"}}) as app:
        database = app.get_db_manager()
        print("started:", "sqlalchemy" in sys.modules)
        counted = await database.count("base04_rate_limiter_bans")
        try:
            await database.find("base04_rate_limiter_bans", {"nonsense": 1})
        except InvalidInput:
            print("counted", counted, "refused:", "sqlalchemy" in sys.modules)
        found = await asyncio.gather(*(database.find("base04_rate_limiter_bans", {"entry": "x"}) for _ in range(8)))
        print("found", found == [[]] * 8, "compiled:", "sqlalchemy" in sys.modules)

asyncio.run(main())
"""


def test_host_starts_without_what_compiles_statements(tmp_path: Path) -> None:
    def run() -> str:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    run()  # which makes the tables
    assert run() == "started: False\ncounted 0 refused: False\nfound True compiled: True\n"
