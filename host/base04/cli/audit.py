"""``base04 audit``: who was let in and who was not, and what was done to tokens and keys."""

from __future__ import annotations

import json
from typing import Annotated, Any, Final

import typer

from base04.cli.output import JSONOption
from base04.cli.pages import (
    BeforeOption,
    LimitOption,
    RequestOption,
    SinceOption,
    UntilOption,
    UserOption,
    local_time,
    show_page,
)

_COLUMNS: Final = ("time", "event", "outcome", "user", "address", "request", "details")


def add_to(program: typer.Typer) -> None:
    """Add the command."""
    program.command()(audit)


def audit(
    ctx: typer.Context,
    event: Annotated[
        str | None, typer.Option(help="Only these: api_key.created, or api_key.* for all of keys.")
    ] = None,
    user: UserOption = None,
    outcome: Annotated[str | None, typer.Option(help="Only those with success, denied or error.")] = None,
    since: SinceOption = None,
    until: UntilOption = None,
    request: RequestOption = None,
    limit: LimitOption = 100,
    before: BeforeOption = None,
    as_json: JSONOption = False,
) -> None:
    """Show the audit log, newest first."""
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
    show_page(ctx.obj, "events", asked, _COLUMNS, _line, path="/audit", as_json=as_json)


def _line(event: dict[str, Any]) -> tuple[Any, ...]:
    return (
        local_time(event["at"]),
        event["event"],
        event["outcome"],
        event["user_id"],
        event["client_ip"],
        event["request_id"],
        ", ".join(f"{name}={_shown(value)}" for name, value in event["details"].items()),
    )


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
