"""``base04 actions list``, ``packs``, ``validate``, ``show``, ``schema``, ``run``."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any
from urllib.parse import quote

import typer

from base04.cli.arguments import coerced, read_words
from base04.cli.following import run_to_its_end
from base04.cli.output import JSONOption, print_json, print_table
from base04.cli.session import Ask, Session, accepted

_ROLES = ("action_discovery",)

group = typer.Typer(help="List, check, show and run actions.", no_args_is_help=True)


@group.command("list")
def list_actions(ctx: typer.Context, as_json: JSONOption = False) -> None:
    """List all actions."""
    session: Session = ctx.obj
    found = session.ask("GET", "/actions", only=_ROLES)
    if as_json:
        print_json(found)
        return
    rows = ((item["name"], item["summary"], _access(item), item["pack_version"]) for item in found["actions"].values())
    print_table(("action", "summary", "access", "version"), rows, empty="There are no actions.")
    if found["faults"]:
        sys.stdout.write(f"\n{len(found['faults'])} faults in action files: see `base04 actions validate`\n")


@group.command()
def packs(ctx: typer.Context, as_json: JSONOption = False) -> None:
    """List the action packs, with what they need and where they came from."""
    session: Session = ctx.obj
    found = session.ask("GET", "/packs", only=_ROLES)
    if as_json:
        print_json(found)
        return
    rows = (
        (item["name"], item["version"], item["summary"], len(item["actions"]), item["requires"], item["source"])
        for item in found["packs"].values()
    )
    print_table(("pack", "version", "summary", "actions", "requires", "defined"), rows, empty="There are no packs.")


@group.command()
def validate(ctx: typer.Context, as_json: JSONOption = False) -> None:
    """Show everything that is wrong with action files, as they were last read; exit status 1 where anything is."""
    session: Session = ctx.obj
    found = session.ask("GET", "/actions", only=_ROLES)
    faults = found["faults"]
    if as_json:
        print_json({"faults": faults})
    elif faults:
        for fault in faults:
            sys.stdout.write(f"{fault['file']}:{fault['line']}:{fault['column']}: {fault['message']}\n")
    else:
        sys.stdout.write(f"{found['total']} actions, no faults.\n")
    raise typer.Exit(1 if faults else 0)


@group.command()
def show(ctx: typer.Context, name: str, as_json: JSONOption = False) -> None:
    """Show an action: what it takes, what it gives, who may run it."""
    session: Session = ctx.obj
    item = session.ask("GET", f"/actions/{quote(name, safe='')}", only=_ROLES)
    if as_json:
        print_json(item)
        return
    sys.stdout.write(f"{item['name']} ({item['pack']} {item['pack_version']})\n{item['summary']}\n")
    if item["description"]:
        sys.stdout.write(f"\n{item['description']}\n")
    facts = {"access": _access(item), "handler": item["handler"], "defined": item["source"]}
    facts |= {"timeout": f"{item['timeout']:g} s"} if item["timeout"] else {}
    facts |= {"limits": ", ".join(item["rate_limit"])} if item["rate_limit"] else {}
    sys.stdout.write("".join(f"  {name:<9} {value}\n" for name, value in facts.items()) + "\n")
    required = set(item["parameters"].get("required", ()))
    rows = (
        (key, _type(schema), "required" if key in required else _default(schema), schema.get("description", ""))
        for key, schema in item["parameters"].get("properties", {}).items()
    )
    print_table(("parameter", "type", "", "description"), rows, empty="It takes no parameters.")


@group.command()
def schema() -> None:
    """Print the JSON Schema of action files, which editors complete and check from."""
    from base04_hookspecs.action_file import action_file_schema

    print_json(action_file_schema())


def _access(item: dict[str, Any]) -> str:
    return ", ".join(item["permissions"]) if item["access"] == "permissions" else str(item["access"])


def _type(schema: Any) -> str:
    kind = schema.get("type", "any") if isinstance(schema, dict) else "any"
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _default(schema: Any) -> str:
    return (
        f"default {json.dumps(schema['default'])}" if isinstance(schema, dict) and "default" in schema else "optional"
    )


@group.command("run")
def run_action(
    ctx: typer.Context,
    name: str,
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            help="Arguments as name=value, read by the action's schema; or one JSON object, or - for stdin."
        ),
    ] = None,
    background: Annotated[
        bool,
        typer.Option("--background", help="Print the execution at once; needs a host that runs."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check the arguments, and do not run it.")] = False,
    as_json: JSONOption = False,
) -> None:
    """Run an action as the host's own user and print its result, which is JSON with or without --json.

    On a terminal, what an action says of its progress is shown as a bar.
    """
    session: Session = ctx.obj
    words = read_words(arguments or [])
    if background and session.running_host() is None:
        raise typer.BadParameter("An action can only go on in a host that runs: start one with `base04 serve`.")
    place = f"/actions/{quote(name, safe='')}"

    async def conversation(ask: Ask) -> Any:
        body = words or {}
        if isinstance(words, list) and words:
            body = coerced(words, accepted(await ask("GET", place))["parameters"])
        return await run_to_its_end(ask, f"{place}?dry_run=true" if dry_run else place, body, wait=not background)

    print_json(session.converse(conversation))
