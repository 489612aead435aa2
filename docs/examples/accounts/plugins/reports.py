from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from base04_hookspecs import hookimpl

REGIONS = ("north", "south")


async def turnover(region: str) -> dict[str, str]:
    """Handle the actions of all regions."""
    return {"region": region}


@hookimpl
def action_packs() -> Iterator[dict[str, Any]]:
    """Define one action for each region."""
    yield {
        "pack": "reports",
        "version": "1.0.0",
        "actions": {
            region: {
                "handler": turnover,
                "access": "public",
                "parameters": {"region": {"const": region, "default": region}},
            }
            for region in REGIONS
        },
    }
