"""``base04 executions list``, ``show``, ``cancel``: what was run, and what runs in the background."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any, Final
from urllib.parse import quote

import typer

from base04.cli.output import JSONOption, print_json
from base04.cli.pages import (
    ROLES,
    BeforeOption,
    LimitOption,
    RequestOption,
    SinceOption,
    UntilOption,
    UserOption,
    local_time,
    show_page,
)
from base04.cli.session import Session

_COLUMNS: Final = ("execution", "time", "action", "status", "took", "user", "progress", "request")

group = typer.Typer(help="List, show and cancel runs of actions.", no_args_is_help=True)


@group.command("list")
def list_executions(
    ctx: typer.Context,
    action: Annotated[str | None, typer.Option(help="Only those of this action, or notes.* for a pack.")] = None,
    status: Annotated[str | None, typer.Option(help="Only those that are running, failed, ...")] = None,
    user: UserOption = None,
    background: Annotated[bool, typer.Option("--background", help="Only those in the background.")] = False,
    since: SinceOption = None,
    until: UntilOption = None,
    request: RequestOption = None,
    limit: LimitOption = 100,
    before: BeforeOption = None,
    as_json: JSONOption = False,
) -> None:
    """List who ran what, newest first."""
    asked = {
        "action": action,
        "status": status,
        "user": user,
        "mode": "background" if background else None,
        "since": since,
        "until": until,
        "request_id": request,
        "before": before,
        "limit": limit,
    }
    show_page(ctx.obj, "executions", asked, _COLUMNS, _line, as_json=as_json)


@group.command()
def show(ctx: typer.Context, execution: str, as_json: JSONOption = False) -> None:
    """Show an execution: how far it is, its result or what went wrong."""
    session: Session = ctx.obj
    found = session.ask("GET", f"/executions/{quote(execution, safe='')}", only=ROLES)
    if as_json:
        print_json(found)
        return
    facts = {"action": found["action"], "status": found["status"], "began": local_time(found["created_at"])}
    facts |= {"took": _took(found), "user": found["user_id"], "request": found["request_id"]}
    facts |= {"progress": _progress(found)}
    for name, value in facts.items():
        if value:
            sys.stdout.write(f"{name:<9} {value}\n")
    if found["error"] is not None:
        sys.stdout.write(f"error     {found['error'].get('detail', '')}\n")
    if found.get("result") is not None:
        sys.stdout.write(f"result    {json.dumps(found['result'], ensure_ascii=False)}\n")


@group.command()
def cancel(ctx: typer.Context, execution: str, as_json: JSONOption = False) -> None:
    """Cancel an execution; one that has ended stays as it is."""
    session: Session = ctx.obj
    found = session.ask("POST", f"/executions/{quote(execution, safe='')}/cancel", only=ROLES)
    if as_json:
        print_json(found)
        return
    ends = "is being cancelled" if found["status"] == "running" else f"has ended: {found['status']}"
    sys.stdout.write(f"{found['id']} {ends}\n")


def _line(found: dict[str, Any]) -> tuple[Any, ...]:
    return (
        found["id"],
        local_time(found["created_at"]),
        found["action"],
        found["status"],
        _took(found),
        found["user_id"],
        _progress(found),
        found["request_id"],
    )


def _took(found: dict[str, Any]) -> str:
    seconds = found["duration"]
    if seconds is None:
        return ""
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _progress(found: dict[str, Any]) -> str:
    progress = found.get("progress")
    if not progress:
        return ""
    total = "" if progress["total"] is None else f"/{progress['total']:g}"
    return f"{progress['done']:g}{total} {progress['message']}".strip()
