"""``base04 new``: a distribution to begin with."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from base04.cli.session import Session

group = typer.Typer(
    help="Write a distribution that installs, type-checks and passes its tests, to go on from.", no_args_is_help=True
)

NameArgument = Annotated[str, typer.Argument(help="The name of the distribution: acme-cache.")]
FolderOption = Annotated[
    Path | None, typer.Option("--folder", help="Where to write it; a folder of its name if not given.")
]


@group.command()
def plugin(name: NameArgument, folder: FolderOption = None) -> None:
    """Write a plugin: a route, and something that happens before every action."""
    _write("plugin", name, folder)


@group.command()
def pack(name: NameArgument, folder: FolderOption = None) -> None:
    """Write an action pack."""
    _write("pack", name, folder)


@group.command()
def manager(
    ctx: typer.Context,
    name: NameArgument,
    role: Annotated[
        str | None, typer.Option(help="The role of Base04 whose built-in provider it takes the place of.")
    ] = None,
    folder: FolderOption = None,
) -> None:
    """Write a manager: of a role of its own, or, with --role, another provider for one of Base04's."""
    if role is None:
        _write("role", name, folder)
        return
    from base04.distribution_template import replacing

    session: Session = ctx.obj
    _write("manager", name, folder, replacing(role, session.manager().discovery))


def _write(kind: Any, name: str, folder: Path | None, more: dict[str, Any] | None = None) -> None:
    from base04.distribution_template import write_distribution

    target = folder or Path(name)
    written = write_distribution(kind, name, target, more)
    where = shlex.quote(str(target))
    sys.stdout.write(f"Wrote {len(written)} files into {target}.\nNext: cd {where} && pip install -e . --group test\n")
    sys.stdout.write("  base04 plugins\n  pytest && mypy\n")
