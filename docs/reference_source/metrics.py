"""Metrics: what a running host with the built-in plugins tells of itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import httpx2

from base04 import AppManager
from base04.metrics.exposition import HostCollector
from base04.workers.exposition import of_workers
from base04.workers.messages import Roster
from reference_source.page import Page, table
from reference_source.running import asked

Row = tuple[str, str, str, str]

_HEADS: Final = ("name", "type", "labels", "meaning")


def page() -> Page:
    """Return the page."""
    families, reported = asked(_told)
    return Page.of("reference/metrics.md", "Metrics", _lines(families, reported))


def _lines(families: list[Row], reported: list[tuple[str, str]]) -> Iterator[str]:
    yield "What `GET /metrics` answers, beside the metrics of the process (`process_...`), of Python (`python_...`) and"
    yield from ("those that plugins add: see [metrics](../run.md#metrics).", "", "## Of the host", "")
    yield from table(_HEADS, families)
    yield from (
        "## Of several workers",
        "",
        "With several workers each sample has the label `worker`, and there are",
        "",
    )
    yield from table(_HEADS, [_row(family) for family in of_workers((), Roster(1, (), 0))])
    yield from ("## Of managers", "")
    yield "Each number that a manager reports with its health is a `base04_manager` whose label `metric` is its name."
    yield from ("These are those of the built-in managers that run where nothing else is chosen:", "")
    yield from table(("manager", "metrics"), reported)


async def _told(app: AppManager, client: httpx2.AsyncClient) -> tuple[list[Row], list[tuple[str, str]]]:
    await client.get("/health")  # so that there is an answer to count
    await app.health.probe()
    assert app.newest is not None
    families = [_row(family) for family in HostCollector(app, app.newest).collect()]
    latest = app.health.latest
    assert latest is not None
    reported = [(f"`{name}`", _names(report["metrics"])) for name, report in sorted(latest["managers"].items())]
    return families, [row for row in reported if row[1]]


def _row(family: Any) -> Row:
    """Describe one family. Its labels are known to it alone where it has no samples yet."""
    suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
    labels = ", ".join(f"`{label}`" for label in family._labelnames)
    return f"`{family.name}{suffix}`", family.type, labels, family.documentation


def _names(metrics: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(metrics))
