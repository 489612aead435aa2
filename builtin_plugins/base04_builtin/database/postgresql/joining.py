"""Several steps as one statement, which the server commits by itself: one round trip instead of one for each.

All parts of a statement see the same rows, those that were there before it, so the steps must not see each other
anyway: each is about a table of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from base04_builtin.database.postgresql.errors import sqlstate
from base04_builtin.database.requests import Step
from base04_hookspecs.errors import Conflict

_MOST: Final = 8
_PLACEHOLDER: Final = re.compile(r"\$(\d+)")
_DIVISION_BY_ZERO: Final = "22012"


def joined(steps: Sequence[Step]) -> Step | None:
    """Return steps as one, None where that is not the same.

    They must be inserts, and at most one change of the one row that is expected; a row that is not there divides by
    zero, which undoes the rest.
    """
    if not 1 < len(steps) <= _MOST or len({step.table for step in steps if step.table}) < len(steps):
        return None
    guarded = None
    for step in steps:
        if step.otherwise is not None:
            return None
        if step.expect is not None or not step.sql.startswith("INSERT "):
            if guarded is not None or step.expect != 1 or not step.single:
                return None
            guarded = step
    shapes = tuple((step.sql, len(step.params)) for step in steps)
    sql = _text(shapes, None if guarded is None else steps.index(guarded))
    params = tuple(value for step in steps for value in step.params)
    return Step(sql, params, guarded.place if guarded is not None else f"1 to {len(steps)}")


def unmet(step: Step, error: BaseException) -> Conflict | None:
    """Return what the failure of joined steps says where the expected row was not there, None for other failures."""
    if sqlstate(error) != _DIVISION_BY_ZERO:
        return None
    return Conflict(f"The operation {step.place} touched 0 rows where 1 were expected; nothing was done.")


@lru_cache(maxsize=256)
def _text(shapes: tuple[tuple[str, int], ...], guarded: int | None) -> str:
    parts: list[str] = []
    shift = 0
    for index, (sql, count) in enumerate(shapes):
        moved = _PLACEHOLDER.sub(lambda match, by=shift: f"${int(match[1]) + by}", sql)  # type: ignore[misc]  # by is bound
        parts.append(f"s{index} AS ({moved}{' RETURNING 1' if index == guarded else ''})")
        shift += count
    last = "SELECT 1" if guarded is None else f"SELECT 1 / count(*) FROM s{guarded}"  # noqa: S608 - a number
    return f"WITH {', '.join(parts)} {last}"
