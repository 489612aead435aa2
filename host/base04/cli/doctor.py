"""``base04 doctor``."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import typer

from base04.cli.output import JSONOption, print_json, print_table
from base04.cli.session import Session
from base04_hookspecs.errors import Base04Error

if TYPE_CHECKING:
    from base04.blueprint import Blueprint


def add_to(program: typer.Typer) -> None:
    """Add the command."""
    program.command()(doctor)


def doctor(ctx: typer.Context, as_json: JSONOption = False) -> None:
    """Check everything that can be checked without starting; exit status 1 where anything is wrong.

    Settings, plugins, versions, missing extras, servers, modes of files, action packs, unused settings, weak secrets.
    """
    from base04.doctor import Finding, examine

    session: Session = ctx.obj

    def draw() -> Blueprint:
        return session.manager().blueprint

    findings = examine(draw, session.settings_file)
    try:
        faults = session.ask("GET", "/actions", only=("action_discovery",))["faults"]
    except Base04Error:
        if not any(finding.level == "error" for finding in findings):
            raise
        faults = []
        message = "Packs were not looked at: mend the errors first that keep actions from being found."
        findings.append(Finding("warning", "actions", message))
    packs = [
        Finding("error", f"{fault['file']}:{fault['line']}:{fault['column']}", fault["message"]) for fault in faults
    ]
    findings = [*packs, *findings]
    if as_json:
        print_json({"findings": [dataclasses.asdict(finding) for finding in findings]})
    else:
        rows = ((finding.level, finding.subject, finding.message) for finding in findings)
        print_table(("", "what", "finding"), rows, empty="Nothing was checked.")
    raise typer.Exit(1 if any(finding.level == "error" for finding in findings) else 0)
