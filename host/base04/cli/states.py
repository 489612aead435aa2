"""``base04 state``: look at states, and at what durable callbacks could not take in."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any, Final
from urllib.parse import quote, urlencode

import typer

from base04.cli.output import JSONOption, print_json, print_table
from base04.cli.session import Session

_ROLES: Final = ("state",)
_COLUMNS: Final = ("callback", "event", "state", "version", "status", "attempts", "next attempt", "error")

group = typer.Typer(help="Look at states, and at changes that callbacks could not take in.", no_args_is_help=True)

Callback = Annotated[str, typer.Argument(help="The name of the durable callback.")]
Event = Annotated[str, typer.Argument(help="The event, as `state events` shows it.")]


@group.command()
def show(ctx: typer.Context, state_id: Annotated[str, typer.Argument(help="The id of the state.")]) -> None:
    """Print a state as JSON."""
    session: Session = ctx.obj
    print_json(session.ask("GET", f"/state/{quote(state_id, safe='')}?fresh=true", only=_ROLES))


@group.command()
def events(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Option(help="Only those of this durable callback.")] = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Those that wait for their turn, too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many at most.")] = 100,
    as_json: JSONOption = False,
) -> None:
    """Show parked events: changes that a durable callback refused until nobody tried any more."""
    session: Session = ctx.obj
    asked = {"name": name, "limit": limit, "status": None if waiting else "parked"}
    query = urlencode({key: value for key, value in asked.items() if value is not None})
    found = session.ask("GET", f"/state-events?{query}", only=_ROLES)
    if as_json:
        print_json(found)
        return
    print_table(_COLUMNS, map(_line, found["events"]), empty="There are no such events.")


@group.command()
def retry(ctx: typer.Context, name: Callback, event: Event) -> None:
    """Deliver a parked event again."""
    session: Session = ctx.obj
    session.ask("POST", f"/state-events/{quote(event, safe='')}/retry?{urlencode({'name': name})}", only=_ROLES)
    sys.stdout.write(f"The event {event} is delivered again.\n")


@group.command()
def discard(ctx: typer.Context, name: Callback, event: Event) -> None:
    """Drop a parked event for good."""
    session: Session = ctx.obj
    session.ask("DELETE", f"/state-events/{quote(event, safe='')}?{urlencode({'name': name})}", only=_ROLES)
    sys.stdout.write(f"The event {event} is dropped.\n")


@group.command()
def forget(ctx: typer.Context, name: Callback) -> None:
    """End a durable callback that no program registers any more, with all that waits for it."""
    session: Session = ctx.obj
    session.ask("DELETE", f"/state-callbacks?{urlencode({'name': name})}", only=_ROLES)
    sys.stdout.write(f"The callback {name} is forgotten.\n")


def _line(event: dict[str, Any]) -> tuple[Any, ...]:
    due = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["due"]))
    return (
        event["name"],
        event["event_id"],
        event["state_id"],
        event["version"],
        event["status"],
        event["attempts"],
        due if event["status"] == "waiting" else "",
        event["error"],
    )
