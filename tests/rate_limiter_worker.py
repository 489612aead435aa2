"""A process of its own that counts on a shared Redis, with a wrong clock: ``python rate_limiter_worker.py {settings}``.

It waits for a line on its input, so that several begin together, makes its calls and prints what came of them.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any


def skew(seconds: float) -> None:
    """Set the clock of this process, before anything reads it."""
    time_s, time_ns = time.time, time.time_ns
    time.time = lambda: time_s() + seconds
    time.time_ns = lambda: time_ns() + round(seconds * 1e9)


def say(text: str) -> None:
    """Write a line to who has started this."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def work(task: dict[str, Any]) -> dict[str, Any]:
    from rate_limiter_kit import limiter, running, sqlite_in  # only once the clock is wrong
    from redis_kit import manager_for

    redis, database = manager_for(task["url"]), sqlite_in(Path(task["folder"]))
    async with running(redis, database), limiter(redis, database, limits=task["limits"]) as manager:
        say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        if task["ban"]:
            await manager.ban_identifier(task["ban"], 600, reason="from a worker")
        results = []

        async def caller() -> None:
            for _ in range(task["calls"]):
                results.append(await manager.check_rate_limit(list(task["who"]), identifiers=task["who"]))

        await asyncio.gather(*(caller() for _ in range(task["callers"])))
        banned = await manager.get_rate_limit_info("203.0.113.9", "ip")
    return {
        "allowed": sum(result["allowed"] for result in results),
        "waits": [result["retry_after"] for result in results if not result["allowed"]],
        "banned": banned["banned"],
    }


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    skew(given["skew"])
    say(json.dumps(asyncio.run(work(given))))
