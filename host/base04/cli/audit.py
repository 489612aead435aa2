"""``base04 audit``: who was let in and who was not, and what was done to tokens and keys."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any, Final
from urllib.parse import urlencode

import typer

from base04.cli.output import JSONOption, print_json, print_table
from base04.cli.session import Session

_ROLES: Final = ("database",)
_COLUMNS: Final = ("time", "event", "outcome", "user", "address", "request", "details")


def add_to(program: typer.Typer) -> None:
    """Add the command."""
    program.command()(audit)


def audit(
    ctx: typer.Context,
    event: Annotated[
        str | None, typer.Option(help="Only these: api_key.created, or api_key.* for all of keys.")
    ] = None,
    user: Annotated[str | None, typer.Option(help="Only those of this user.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Only those with success, denied or error.")] = None,
    since: Annotated[str | None, typer.Option(help="From when on: 2h, 7d, or 2026-11-23T10:00.")] = None,
    until: Annotated[str | None, typer.Option(help="Until when, likewise.")] = None,
    request: Annotated[str | None, typer.Option(help="Only those of the request with this id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    before: Annotated[str | None, typer.Option(help="Go on after a page: its `next`.")] = None,
    as_json: JSONOption = False,
) -> None:
    """Show the audit log, newest first."""
    session: Session = ctx.obj
    asked = {
        "event": event,
        "user": user,
        "outcome": outcome,
        "since": since,
        "until": until,
        "request_id": request,
        "before": before,
        "limit": limit,
    }
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    found = session.ask("GET", f"/audit?{query}", only=_ROLES)
    if as_json:
        print_json(found)
        return
    print_table(_COLUMNS, map(_line, found["events"]), empty="There are no such events.")
    if found["next"] is not None:
        typer.echo(f"\nThere are more: --before {found['next']}")


def _line(event: dict[str, Any]) -> tuple[Any, ...]:
    return (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["at"])),
        event["event"],
        event["outcome"],
        event["user_id"],
        event["client_ip"],
        event["request_id"],
        ", ".join(f"{name}={_shown(value)}" for name, value in event["details"].items()),
    )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
