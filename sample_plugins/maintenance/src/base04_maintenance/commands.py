"""``base04 maintenance``."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from base04_hookspecs.command_line import CommandSession

_ROLES = ("maintenance",)

group = typer.Typer(
    name="maintenance", help="Close the application for maintenance, and open it.", no_args_is_help=True
)


@group.command("on")
def close(
    ctx: typer.Context,
    message: Annotated[str, typer.Option("--message", "-m", help="What visitors are told.")] = "",
    duration: Annotated[str | None, typer.Option("--for", help="How long it will take: 30m, 2h.")] = None,
) -> None:
    """Close the application to everybody but those who hold maintenance.pass."""
    session: CommandSession = ctx.obj
    found = session.ask("PUT", "/maintenance", {"message": message, "duration": duration}, only=_ROLES)
    typer.echo(_told(found))


@group.command("off")
def reopen(ctx: typer.Context) -> None:
    """Open the application."""
    session: CommandSession = ctx.obj
    changed = session.ask("DELETE", "/maintenance", only=_ROLES)["changed"]
    typer.echo("The application is open." if changed else "The application was open.")


@group.command()
def status(ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show whether the application is closed; exit status 0 open, 1 closed."""
    session: CommandSession = ctx.obj
    found = session.ask("GET", "/maintenance", only=_ROLES)
    typer.echo(json.dumps(found) if as_json else _told(found))
    raise typer.Exit(1 if found["closed"] else 0)


def _told(found: dict[str, Any]) -> str:
    if not found["closed"]:
        return "The application is open."
    until = f" until {_moment(found['ends_at'])}" if found["ends_at"] is not None else ""
    message = f": {found['message']}" if found["message"] else "."
    return f"The application is closed since {_moment(found['since'])}{until}{message}"


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
