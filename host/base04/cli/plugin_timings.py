"""``base04 plugins --timings``."""

from __future__ import annotations

import sys
from typing import Any

import typer

from base04.cli.output import print_json, print_table
from base04.cli.session import Session


def show_timings(session: Session, name: str | None, *, as_json: bool) -> None:
    """Print how long the hooks of all plugins, or of one, take in the running host, the longest in total first."""
    if session.running_host() is None:
        sys.stderr.write(f"base04: No host runs in {str(session.settings.data_dir)!r}.\n")
        raise typer.Exit(3)
    modules = session.ask("GET", "/modules")["modules"]
    if not any("timings" in module for module in modules):
        sys.stderr.write("base04: The host does not trace hooks: start it with `base04 serve --trace-hooks`.\n")
        raise typer.Exit(1)
    found = [
        {"plugin": module["name"], **timing}
        for module in modules
        for timing in module.get("timings", ())
        if name in (None, module["name"])
    ]
    found.sort(key=lambda timing: -timing["total"])
    if as_json:
        print_json({"timings": found})
        return
    columns = ("plugin", "hook", "stage", "calls", "total ms", "mean ms", "longest ms")
    print_table(columns, map(_row, found), empty="Nothing was called yet.")


def _row(timing: dict[str, Any]) -> tuple[Any, ...]:
    total, count = timing["total"] * 1000, timing["count"]
    times = (f"{number:.2f}" for number in (total, total / count, timing["max"] * 1000))
    return (timing["plugin"], timing["hook"], timing["stage"], count, *times)
