"""``base04 executions list``, ``show``, ``cancel``: what was run, and what runs in the background."""

from __future__ import annotations

import json
import sys
import time
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import typer

from base04.cli.output import JSONOption, print_json, print_table
from base04.cli.session import Session

_ROLES: Final = ("database",)
_COLUMNS: Final = ("execution", "time", "action", "status", "took", "user", "progress", "request")

group = typer.Typer(help="List, show and cancel runs of actions.", no_args_is_help=True)


@group.command("list")
def list_executions(
    ctx: typer.Context,
    action: Annotated[str | None, typer.Option(help="Only those of this action, or notes.* for a pack.")] = None,
    status: Annotated[str | None, typer.Option(help="Only those that are running, failed, ...")] = None,
    user: Annotated[str | None, typer.Option(help="Only those of this user.")] = None,
    background: Annotated[bool, typer.Option("--background", help="Only those in the background.")] = False,
    since: Annotated[str | None, typer.Option(help="From when on: 2h, 7d, or 2026-11-23T10:00.")] = None,
    until: Annotated[str | None, typer.Option(help="Until when, likewise.")] = None,
    request: Annotated[str | None, typer.Option(help="Only that of the request with this id.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    before: Annotated[str | None, typer.Option(help="Go on after a page: its `next`.")] = None,
    as_json: JSONOption = False,
) -> None:
    """List who ran what, newest first."""
    session: Session = ctx.obj
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
    query = urlencode({name: value for name, value in asked.items() if value is not None})
    found = session.ask("GET", f"/executions?{query}", only=_ROLES)
    if as_json:
        print_json(found)
        return
    print_table(_COLUMNS, map(_line, found["executions"]), empty="There are no such executions.")
    if found["next"] is not None:
        typer.echo(f"\nThere are more: --before {found['next']}")


@group.command()
def show(ctx: typer.Context, execution: str, as_json: JSONOption = False) -> None:
    """Show an execution: how far it is, its result or what went wrong."""
    session: Session = ctx.obj
    found = session.ask("GET", f"/executions/{quote(execution, safe='')}", only=_ROLES)
    if as_json:
        print_json(found)
        return
    facts = {"action": found["action"], "status": found["status"], "began": _when(found["created_at"])}
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
    found = session.ask("POST", f"/executions/{quote(execution, safe='')}/cancel", only=_ROLES)
    if as_json:
        print_json(found)
        return
    ends = "is being cancelled" if found["status"] == "running" else f"has ended: {found['status']}"
    sys.stdout.write(f"{found['id']} {ends}\n")


def _line(found: dict[str, Any]) -> tuple[Any, ...]:
    return (
        found["id"],
        _when(found["created_at"]),
        found["action"],
        found["status"],
        _took(found),
        found["user_id"],
        _progress(found),
        found["request_id"],
    )


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


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
