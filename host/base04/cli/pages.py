"""What commands share that list what was kept, newest first, a page at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import typer

from base04.cli.output import print_json, print_table
from base04.cli.session import Session

ROLES: Final = ("database",)
"""The roles that are needed to answer, where no host runs."""

UserOption = Annotated[str | None, typer.Option(help="Only those of this user.")]
SinceOption = Annotated[str | None, typer.Option(help="From when on: 2h, 7d, or 2026-11-23T10:00.")]
UntilOption = Annotated[str | None, typer.Option(help="Until when, likewise.")]
RequestOption = Annotated[str | None, typer.Option(help="Only those of the request with this id.")]
LimitOption = Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")]
BeforeOption = Annotated[str | None, typer.Option(help="Go on after a page: its `next`.")]

Line = Callable[[dict[str, Any]], tuple[Any, ...]]


def show_page(
    session: Session,
    kind: str,
    asked: Mapping[str, Any],
    columns: Sequence[str],
    line: Line,
    *,
    path: str | None = None,
    as_json: bool,
) -> None:
    """Ask for a page and print it; ``asked`` without what is None becomes the query.

    Args:
        kind: what is listed, as the answer and the message for an empty page call it.
        path: where to ask, if that is not named after the kind.
    """
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    found = session.ask("GET", f"{path or '/' + kind}?{query}", only=ROLES)
    if as_json:
        print_json(found)
        return
    print_table(columns, map(line, found[kind]), empty=f"There are no such {kind}.")
    if found["next"] is not None:
        typer.echo(f"\nThere are more: --before {found['next']}")


def local_time(at: float) -> str:
    """Return a time, given in seconds since the epoch, as the clock on the wall had it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
