"""The ``base04`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    from base04.cli.program import run

    run(sys.argv[1:])


__all__ = ["main"]
