"""``base04 webhooks``."""

from __future__ import annotations

import base64
import json
import secrets
from typing import Annotated
from urllib.parse import quote

import typer

from base04_hookspecs.command_line import CommandSession

_ROLES = ("webhooks",)

group = typer.Typer(name="webhooks", help="Look after webhooks.", no_args_is_help=True)


@group.command()
def secret() -> None:
    """Print a new secret, for an endpoint and for whoever receives there."""
    typer.echo("whsec_" + base64.b64encode(secrets.token_bytes(32)).decode())


@group.command()
def status(ctx: typer.Context, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show how many messages wait for each endpoint."""
    session: CommandSession = ctx.obj
    found = session.ask("GET", "/webhooks", only=_ROLES)["endpoints"]
    if as_json:
        typer.echo(json.dumps(found))
        return
    for each in found:
        error = f"; {each['last_error']}" if each["last_error"] else ""
        typer.echo(f"{each['endpoint']}   {each['url']}   {each['waiting']} wait, {each['dead']} given up{error}")


@group.command()
def retry(ctx: typer.Context, endpoint: Annotated[str, typer.Argument(help="The endpoint's name.")]) -> None:
    """Try all that waits for an endpoint, or was given up, again now."""
    session: CommandSession = ctx.obj
    count = session.ask("POST", f"/webhooks/{quote(endpoint, safe='')}/retry", only=_ROLES)["retried"]
    typer.echo(f"{count} messages are tried again.")
