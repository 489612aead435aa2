"""Handlers of the pack ``reports``."""

from __future__ import annotations

import asyncio
import itertools

from base04_hookspecs.action_discovery import ActionContext

_numbers = itertools.count(1)


async def build(year: int, context: ActionContext) -> dict[str, int]:
    """Build a report month by month."""
    pages = 0
    for month in range(1, 13):
        context.progress(month - 1, 12, f"{year}-{month:02}")
        pages += await _pages_of(year, month)
    context.progress(12, 12, "bound")
    return {"pages": pages}


async def _pages_of(year: int, month: int) -> int:
    await asyncio.sleep(0.01)
    return (year + month) % 7 + 1


async def order(year: int, copies: int) -> dict[str, int]:
    """Order copies; ordering twice would cost twice."""
    return {"number": next(_numbers), "year": year, "copies": copies}
