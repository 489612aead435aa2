"""``base04 modules``, ``base04 reload``: plugins switched and settings read anew while the host runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Annotated, Any
from urllib.parse import quote

import typer

from base04.cli.output import JSONOption, print_json, print_table
from base04.cli.plugin_report import commands_of, described, status, write_troubles
from base04.cli.session import Session

group = typer.Typer(help="List plugins, look at one, switch it on or off.", no_args_is_help=True)


def add_to(program: typer.Typer) -> None:
    """Add the command ``reload``."""
    program.command()(reload)


@group.command("list")
def list_modules(ctx: typer.Context, as_json: JSONOption = False) -> None:
    """List the plugins, with what they provide now."""
    session: Session = ctx.obj
    found = session.ask("GET", "/modules")["modules"]
    if as_json:
        print_json({"modules": found})
        return
    rows = ((item["name"], status(item), item["source"], ", ".join(item["contributes"]["running"])) for item in found)
    print_table(("plugin", "status", "source", "provides now"), rows, empty="There are no plugins.")
    write_troubles(found)


@group.command()
def show(ctx: typer.Context, name: str, as_json: JSONOption = False) -> None:
    """Show one plugin: where it came from, what it contributes, how it is."""
    session: Session = ctx.obj
    module = session.ask("GET", _path(name))
    if "cli_commands" in module["contributes"]["hooks"]:
        module["contributes"]["commands"] = commands_of(session.manager(), name)
    if as_json:
        print_json(module)
        return
    sys.stdout.write("".join(f"{line}\n" for line in described(module)))


@group.command()
def enable(ctx: typer.Context, name: str) -> None:
    """Let a plugin take part, at once and after restarts."""
    _switch(ctx, f"{_path(name)}/enable", f"{name} takes part.", f"{name} takes part already.")


@group.command()
def disable(
    ctx: typer.Context,
    name: str,
    swap: Annotated[bool, typer.Option("--swap", help="Let other providers take over what it provides.")] = False,
) -> None:
    """Take a plugin out, at once and after restarts."""
    path = f"{_path(name)}/disable?swap={'true' if swap else 'false'}"
    _switch(ctx, path, f"{name} is switched off.", f"{name} is out already.")


@group.command("reload")
def reload_module(ctx: typer.Context, name: str) -> None:
    """Read everything anew, and renew what a plugin provides."""
    _switch(ctx, f"{_path(name)}/reload", f"{name} was read anew.", f"{name} was not read anew.")
    session: Session = ctx.obj
    if session.running_host() is not None:
        for advice in session.ask("POST", "/reload?dry_run=true")["restart_needed"]:
            sys.stdout.write(f"{advice}\n")


def reload(
    ctx: typer.Context,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    as_json: JSONOption = False,
) -> None:
    """Have the running host read settings, plugins and packs anew, and move over to what has changed."""
    session: Session = ctx.obj
    if session.running_host() is None:
        sys.stderr.write(f"base04: No host runs in {str(session.settings.data_dir)!r}.\n")
        raise typer.Exit(3)
    report = session.ask("POST", f"/reload?dry_run={'true' if dry_run else 'false'}")
    if as_json:
        print_json(report)
        return
    lines = list(_told(report))
    if not lines:
        lines = ["Nothing has changed."]
    elif dry_run:
        lines.append("This was a dry run: nothing was done.")
    lines += _behind(report)
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def _behind(answer: dict[str, Any]) -> Iterator[str]:
    """Say which of several processes do not serve a change yet."""
    for report in answer.get("workers", ()):
        if report["status"] != "serving" or report["revision"] != answer["revision"]:
            yield f"worker {report['worker']} does not serve this yet: it is {report['status']}. See `base04 health`."


def _told(report: dict[str, Any]) -> Iterator[str]:
    yield from report["settings"]
    for name, what in report["plugins"].items():
        yield f"plugin {name}: {what}"
    for what in ("started", "renewed", "stopped"):
        if report[what]:
            yield f"{what}: {', '.join(report[what])}"
    for manager, change in report["providers"].items():
        yield f"provider of {manager}: {change}"
    yield from report["restart_needed"]


def _path(name: str) -> str:
    return f"/modules/{quote(name, safe='')}"


def _switch(ctx: typer.Context, path: str, done: str, not_needed: str) -> None:
    session: Session = ctx.obj
    answer = session.ask("POST", path)
    lines = [done if answer["changed"] else not_needed, *_behind(answer)]
    sys.stdout.write("".join(f"{line}\n" for line in lines))
