"""``base04 actions list``, ``validate``, ``show``, ``schema``, ``run``."""

from __future__ import annotations

import json
import sys
from typing import Annotated, Any
from urllib.parse import quote

import orjson
import typer

from base04.cli.following import run_to_its_end
from base04.cli.output import JSONOption, print_json, print_table
from base04.cli.session import Session

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
            help="Arguments as name=value, where value is JSON or else text; or one JSON object, or - for stdin."
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
    path = f"/actions/{quote(name, safe='')}{'?dry_run=true' if dry_run else ''}"
    body = read_arguments(arguments or [])
    if background and session.running_host() is None:
        raise typer.BadParameter("An action can only go on in a host that runs: start one with `base04 serve`.")
    print_json(session.converse(lambda ask: run_to_its_end(ask, path, body, wait=not background)))


def read_arguments(words: list[str]) -> dict[str, Any]:
    """Read ``name=value`` words, one JSON object, or ``-`` for one on standard input."""
    if len(words) == 1 and (words[0] == "-" or words[0].lstrip().startswith("{")):
        text = sys.stdin.read() if words[0] == "-" else words[0]
        try:
            found = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise typer.BadParameter(f"This is not JSON: {error}.") from error
        if not isinstance(found, dict):
            raise typer.BadParameter("The arguments must be a JSON object.")
        return found
    return dict(map(_argument, words))


def _argument(word: str) -> tuple[str, Any]:
    name, equals, value = word.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"{word!r} is not written as name=value.")
    try:
        return name, orjson.loads(value)
    except orjson.JSONDecodeError:
        return name, value
