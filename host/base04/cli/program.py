"""The command line put together: the host's own commands, then those of plugins."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import structlog
import typer
from typer.core import TyperGroup
from typer.main import get_group

from base04.cli import (
    actions,
    audit,
    doctor,
    executions,
    health,
    inventory,
    keys,
    modules,
    new,
    scaffold,
    serve,
    states,
)
from base04.cli.session import Session
from base04.errors import SettingsError
from base04.plugins.isolation import plugin_code, pressed
from base04_hookspecs.errors import Base04Error

_log = structlog.get_logger()


class HostCommands(TyperGroup):
    """Looks for a command among the plugins' only when the host has none of that name, so that starting stays fast."""

    _found: dict[str, Any] | None = None

    def list_commands(self, ctx: Any) -> list[str]:
        """Name all commands, for the help."""
        try:
            return [*super().list_commands(ctx), *sorted(self._of_plugins(ctx))]
        except Base04Error:  # the settings are at fault: commands that read them say so, the help need not
            return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command by name.

        Raises:
            Base04Error: the host has no such command, and the settings that say which plugins take part are at fault.
        """
        return super().get_command(ctx, cmd_name) or self._of_plugins(ctx).get(cmd_name)

    def _of_plugins(self, ctx: Any) -> dict[str, Any]:
        if self._found is None:
            self._found = _plugin_commands(_session(**ctx.params), taken=super().list_commands(ctx))
        return self._found


def _session(config: Any = None, data_dir: Any = None, *, safe_mode: bool = False, **_: Any) -> Session:
    """Make the session before the options are typed: a plugin's command is looked up ahead of them."""
    return Session(config and Path(config), data_dir and Path(data_dir), safe_mode=safe_mode)


def _plugin_commands(session: Session, taken: Iterable[str]) -> dict[str, Any]:
    from base04.plugins.contributions import collect_commands

    groups: dict[str, Any] = dict.fromkeys(taken)
    for plugin, application in collect_commands(session.manager().discovery):
        try:
            with plugin_code():
                group = get_group(application)
        except BaseException as error:  # a plugin's commands never break the host's own
            if pressed(error):
                raise
            _log.error("a plugin's commands are left out", plugin=plugin, error=repr(error))
            continue
        if groups.setdefault(group.name or plugin, group) is not group:
            _log.error("a plugin's commands are left out, their name is taken", plugin=plugin, name=group.name)
    return {name: group for name, group in groups.items() if group is not None}


program = typer.Typer(
    name="base04",
    cls=HostCommands,
    help="Run managers and actions from plugins, and look at them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for module in (serve, scaffold, inventory, health, modules, doctor, audit):
    module.add_to(program)
program.add_typer(actions.group, name="actions")
program.add_typer(executions.group, name="executions")
program.add_typer(keys.group, name="keys")
program.add_typer(modules.group, name="modules")
program.add_typer(new.group, name="new")
program.add_typer(states.group, name="state")


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
    ctx.obj = _session(config, data_dir, safe_mode=safe_mode)


def run(arguments: list[str]) -> None:
    """Run one command and exit: 0 done, 1 refused or failed, 2 used wrongly, 3 no host runs, 130 interrupted."""
    try:
        try:
            program(args=arguments)
        finally:
            sys.stdout.flush()
    except Base04Error as error:
        if _unforeseen(error):
            traceback.print_exception(error.__cause__)  # whoever wrote the plugin wants to know the place
        sys.stderr.write(f"base04: {error}\n")
        sys.exit(1)
    except BrokenPipeError:  # whoever reads has read enough; nothing is left for the interpreter to flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _unforeseen(error: Base04Error) -> bool:
    """Tell whether an error wraps one that is neither in the settings, nor a backend, nor a missing library."""
    cause = error.__cause__
    if cause is None or isinstance(error, SettingsError):
        return False
    return not isinstance(cause, Base04Error | OSError | ModuleNotFoundError)
