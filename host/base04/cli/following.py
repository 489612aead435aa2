"""Following an execution to its end, with a bar for its progress where somebody watches."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from base04.cli.session import Ask, CommandRefused, accepted, told

_LOOK_S: Final = 0.2
_LONGEST_LOOK_S: Final = 2.0
_OPEN: Final = ("queued", "running")

_Show = Callable[[Mapping[str, Any]], None]


async def run_to_its_end(ask: Ask, path: str, body: Any, *, wait: bool) -> Any:
    """Run an action and return its result; without ``wait``, its execution.

    On a terminal every action runs in the background, so that its progress can be seen.

    Raises:
        CommandRefused: it was refused, or has failed.
    """
    preference = "respond-async" if not wait else "respond-async, wait=1" if sys.stderr.isatty() else None
    headers = {} if preference is None else {"prefer": preference}
    status, answer = await ask("POST", path, body, headers)
    if status != 202 or not wait:
        return accepted((status, answer))
    row = await _end_of(ask, answer)
    if row["status"] != "succeeded":
        raise CommandRefused(f"{told(row['error'], 500)}\n  execution {row['id']}: {row['status']}", 500, row)
    return row["result"]


async def _end_of(ask: Ask, row: dict[str, Any]) -> dict[str, Any]:
    with _bar() as show:
        wait_s = _LOOK_S
        while row["status"] in _OPEN:
            show(row)
            await asyncio.sleep(wait_s)
            wait_s = _LOOK_S if sys.stderr.isatty() else min(wait_s * 1.5, _LONGEST_LOOK_S)
            row = accepted(await ask("GET", f"/executions/{row['id']}"))
        show(row)
    return row


@contextlib.contextmanager
def _bar() -> Iterator[_Show]:
    """Show progress on standard error, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)

        def show(row: Mapping[str, Any]) -> None:
            told = row.get("progress") or {"done": 0, "total": None, "message": ""}
            description = told["message"] or row["status"]
            progress.update(task, completed=told["done"], total=told["total"], description=description)

        yield show
