"""Answers for people and for programs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import orjson
import typer

JSONOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def print_json(value: Any) -> None:
    """Print a value as indented JSON."""
    sys.stdout.write(orjson.dumps(value, option=orjson.OPT_INDENT_2).decode() + "\n")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, empty: str) -> None:
    """Print rows as a table; in a pipe it has no frame and is as wide as it needs to be."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    lines = [[Text("" if value is None else str(value)) for value in row] for row in rows]
    if not lines:
        sys.stdout.write(empty + "\n")
        return
    table = Table(*columns, box=SIMPLE_HEAD, header_style="bold", show_edge=False, pad_edge=False)
    for line in lines:
        table.add_row(*line)
    console = Console() if sys.stdout.isatty() else Console(width=400, no_color=True)
    console.print(table)
