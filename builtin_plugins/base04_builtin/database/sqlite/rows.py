"""Rows that one statement inserts.

Each statement lets go of the interpreter while it runs and has to get it back, for which it may wait for whoever else
computes; so many rows by one statement go several times faster than as many statements.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Final

from base04_builtin.database.requests import Step
from base04_builtin.database.values import Stored

_SIZES: Final = (100, 10)
"""How many rows a statement takes: few numbers, so that few statements are kept."""

_VARIABLES: Final = 32_000
"""How many values a statement takes at most, rounded down."""


def like(steps: Sequence[Step], first: int) -> int:
    """Return how many steps, from one on, one statement does; 1 where each has to be done by itself."""
    step = steps[first]
    if not _inserts_a_row(step.sql, len(step.params)):
        return 1
    sql, found = step.sql, 0
    for other in steps[first : first + _SIZES[0]]:
        if other.sql != sql or other.otherwise is not None or not (other.expect is None or other.expect == 1):
            break
        found += 1
    return next((size for size in _SIZES if size <= found and size * len(step.params) <= _VARIABLES), 1)


def joined(steps: Sequence[Step]) -> tuple[str, tuple[Stored, ...]]:
    """Return the statement that inserts the rows of steps, and what to bind."""
    return _joined(steps[0].sql, len(steps)), tuple(chain.from_iterable([step.params for step in steps]))


@lru_cache(maxsize=256)
def _inserts_a_row(sql: str, values: int) -> bool:
    """Tell whether a planned statement inserts a row of its values and does nothing else."""
    return sql.startswith("INSERT INTO ") and sql.endswith(f" VALUES ({', '.join('?' * values)})")


@lru_cache(maxsize=256)
def _joined(sql: str, rows: int) -> str:
    head, _, row = sql.rpartition(" VALUES ")
    return f"{head} VALUES {', '.join([row] * rows)}"
