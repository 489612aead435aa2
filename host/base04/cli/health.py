"""``base04 health``."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

import typer

from base04.cli.output import JSONOption, print_json, print_table
from base04.cli.session import CommandRefused, Session, ask_over_socket, told

NO_HOST = 3

_COLUMNS: Final = ("worker", "pid", "status", "revision", "health")


def add_to(program: typer.Typer) -> None:
    """Add the command."""
    program.command()(health)


def health(ctx: typer.Context, as_json: JSONOption = False) -> None:
    """Show the health of the running host; exit status 0 healthy or degraded, 1 unhealthy, 3 where none runs."""
    session: Session = ctx.obj
    holder = session.running_host()
    if holder is None:
        sys.stderr.write(f"base04: No host runs in {str(session.settings.data_dir)!r}.\n")
        raise typer.Exit(NO_HOST)
    status, found = ask_over_socket(str(holder.get("socket", "")), "GET", "/health")
    if "managers" not in found:  # it is starting or stopping
        raise CommandRefused(told(found, status), status, found)
    if as_json:
        print_json(found)
    else:
        rows = (
            (name, report["status"], report["details"], f"{report['metrics']['response_time'] * 1000:.1f} ms")
            for name, report in found["managers"].items()
        )
        print_table(("manager", "status", "details", "answered in"), rows, empty="There are no managers.")
        if "workers" in found:
            sys.stdout.write(f"\nrevision {found['revision']}\n")
            print_table(_COLUMNS, _workers(found), empty="There are no workers.")
        sys.stdout.write(f"\n{found['status']}\n")
    raise typer.Exit(1 if status >= 400 else 0)


def _workers(found: dict[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Return the rows of a table of the host's processes."""
    for report in found["workers"]:
        yield tuple(report[column] for column in _COLUMNS)
