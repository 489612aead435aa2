"""``base04 serve``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Annotated, Any

import typer

from base04.cli.session import Session


def add_to(program: typer.Typer) -> None:
    """Add the command."""
    program.command()(serve)


def serve(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(help="The address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(help="The port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="How many processes serve; more than one need shared servers.", min=1, max=256)
    ] = None,
    trace_hooks: Annotated[
        bool, typer.Option("--trace-hooks", help="Time every call of plugins' hooks, for `base04 plugins --timings`.")
    ] = False,
) -> None:
    """Start all managers and serve until a signal ends it."""
    session: Session = ctx.obj
    if trace_hooks:
        session.override({"plugins": {"trace_hooks": True}})
    overrides: dict[str, Any] = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    number = workers or session.settings.server.workers
    if number > 1:
        _serve_with_workers(session, number, overrides)
    else:
        _serve_alone(session, overrides)


def _serve_alone(session: Session, overrides: dict[str, Any]) -> None:
    from base04.server.greeting import greeting
    from base04.server.serving import run

    manager = session.manager()

    async def on_ready(url: str) -> None:
        _greet(await greeting(manager, url))

    run(manager, on_ready=on_ready, workers=1, **overrides)


def _serve_with_workers(session: Session, workers: int, overrides: dict[str, Any]) -> None:
    from base04.workers.supervisor import supervise

    session.configure_logs(worker=0, pid=os.getpid())
    supervise(session.manager(), workers, _greet, safe_mode=session.safe_mode, **overrides)


def _greet(lines: Iterable[str]) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()
