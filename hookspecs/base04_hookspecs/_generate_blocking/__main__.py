"""The command that writes or prints blocking contracts."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from base04_hookspecs._generate_blocking import generate, generate_for, target_file
from base04_hookspecs.errors import ConfigurationError


def main(targets: Sequence[str]) -> int:
    """Rewrite ``blocking.py``, or print a module for the given contracts, and return the exit status."""
    try:
        if targets:
            sys.stdout.write(generate_for(targets))
        else:
            target_file().write_text(generate(), encoding="utf-8")
    except ConfigurationError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
