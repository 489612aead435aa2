"""A program that uses the managers without serving anything."""

from __future__ import annotations

import asyncio

from base04 import AppManager
from base04_hookspecs.state import State, StateType


async def main() -> State | None:
    """Keep a state, and return it."""
    async with AppManager({"data_dir": "job-data"}, only=["state"]) as app:
        states = app.get_state_manager()
        await states.register_state("import_7", StateType.RESOURCE, {"rows": 0})
        await states.update_state("import_7", {"rows": 120})
        return await states.get_state("import_7")


if __name__ == "__main__":
    asyncio.run(main())
