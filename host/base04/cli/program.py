"""The command line put together: the host's own commands, then those of plugins."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from base04.cli import actions, health, inventory, keys, scaffold, serve
from base04.cli.session import Session
from base04_hookspecs.errors import Base04Error


class HostCommands(TyperGroup):
    """Looks for a command among the plugins' only when the host has none of that name, so that starting stays fast."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Name all commands, for the help."""
        return [*super().list_commands(ctx), *sorted(_plugin_commands(ctx))]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by name."""
        return super().get_command(ctx, cmd_name) or _plugin_commands(ctx).get(cmd_name)


def _plugin_commands(ctx: Any) -> dict[str, Any]:
    from base04.contributions import collect_commands

    session = ctx.obj if isinstance(ctx.obj, Session) else Session(None, None)
    try:
        discovery = session.manager().discovery
    except Base04Error:
        return {}  # the settings are at fault, and every command that reads them says so
    groups = [(plugin, get_command(group)) for plugin, group in collect_commands(discovery)]
    return {group.name or plugin: group for plugin, group in groups}


program = typer.Typer(
    name="base04",
    cls=HostCommands,
    help="Run managers and actions from plugins, and look at them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (serve, scaffold, inventory, health):
    module.add_to(program)
program.add_typer(actions.group, name="actions")
program.add_typer(keys.group, name="keys")


@program.callback()
def options(
    ctx: typer.Context,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="The settings file; base04.yaml if there.")
    ] = None,
    data_dir: Annotated[Path | None, typer.Option(help="The folder that holds what the host keeps.")] = None,
    safe_mode: Annotated[
        bool, typer.Option("--safe-mode", help="Leave out everything but the built-in plugins.")
    ] = False,
) -> None:
    """Read what all commands share."""
    ctx.obj = Session(config, data_dir, safe_mode=safe_mode)


def run(arguments: list[str]) -> None:
    """Run one command and exit: 0 done, 1 refused or failed, 2 used wrongly, 3 no host runs, 130 interrupted."""
    try:
        program(args=arguments)
    except Base04Error as error:
        sys.stderr.write(f"base04: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
