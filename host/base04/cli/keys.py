"""``base04 keys create``, ``list``, ``revoke``: through the running host where there is one."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any
from urllib.parse import quote

import typer

from base04.cli.output import JSONOption, print_json, print_table
from base04.cli.session import Session
from base04_hookspecs.settings import parse_duration

_ROLES = ("api_key",)

group = typer.Typer(help="Create, list and revoke API keys.", no_args_is_help=True)


@group.command()
def create(
    ctx: typer.Context,
    user: Annotated[str, typer.Option(help="The user that the key stands for.")],
    permission: Annotated[list[str] | None, typer.Option(help="A permission; repeat it for more.")] = None,
    name: Annotated[str, typer.Option(help="What the key is for.")] = "",
    expires_in: Annotated[str | None, typer.Option(help="For how long it works: 30d, 12h.")] = None,
    rate_limit: Annotated[str | None, typer.Option(help="How often it may be used: 100/minute.")] = None,
    as_json: JSONOption = False,
) -> None:
    """Create a key and print it; it cannot be shown again."""
    session: Session = ctx.obj
    body: dict[str, Any] = {"user_id": user, "permissions": permission or [], "name": name}
    if expires_in is not None:
        try:
            body["expires_in"] = parse_duration(expires_in)
        except ValueError as error:
            raise typer.BadParameter(f"{error}.", param_hint="--expires-in") from error
    if rate_limit is not None:
        body["rate_limit"] = rate_limit
    made = session.ask("POST", "/api-keys", body, only=_ROLES)
    if as_json:
        print_json(made)
    else:
        sys.stdout.write(f"{made['api_key']}\n")


@group.command("list")
def list_keys(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Option(help="Only those of this user.")] = None,
    revoked: Annotated[bool, typer.Option("--revoked", help="Revoked ones too.")] = False,
    as_json: JSONOption = False,
) -> None:
    """List keys, never the secrets in them."""
    session: Session = ctx.obj
    query = f"?limit=1000&include_revoked={'true' if revoked else 'false'}"
    query += f"&user_id={quote(user, safe='')}" if user is not None else ""
    found = session.ask("GET", f"/api-keys{query}", only=_ROLES)["api_keys"]
    if as_json:
        print_json({"api_keys": found})
        return
    rows = (
        (
            item["key_id"],
            item["user_id"],
            item["name"],
            ", ".join(item["permissions"]),
            _moment(item["created_at"]),
            "revoked" if item["revoked_at"] else _moment(item["expires_at"]) or "never",
            _moment(item["last_used_at"]) or "never",
        )
        for item in found
    )
    print_table(
        ("key", "user", "name", "permissions", "created", "ends", "last used"), rows, empty="There are no API keys."
    )


@group.command()
def revoke(
    ctx: typer.Context,
    key_id: Annotated[str, typer.Argument(help="The key's id, as `keys list` shows it.")],
    as_json: JSONOption = False,
) -> None:
    """Revoke a key, at once."""
    session: Session = ctx.obj
    session.ask("DELETE", f"/api-keys/{quote(key_id, safe='')}", only=_ROLES)
    if as_json:
        print_json({"revoked": key_id})
    else:
        sys.stdout.write(f"The key {key_id} is revoked.\n")


def _moment(seconds: float | None) -> str:
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
