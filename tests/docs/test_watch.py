"""The page on watching names what there is to be watched."""

from __future__ import annotations

import re
from pathlib import Path

import httpx2 as httpx

from base04.app_manager import AppManager
from base04.workers.exposition import together
from base04.workers.messages import Roster
from docs_kit import DOCS


async def test_every_metric_is_on_the_page(tmp_path: Path) -> None:
    settings = {"data_dir": str(tmp_path / "data"), "server": {"public_metrics": True}}
    async with AppManager(settings) as app:
        transport = httpx.ASGITransport(app.serve)
        async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
            text = (await client.get("/metrics")).text
    of_workers = together({1: text.encode()}, Roster(peers=(), revision=1, restarts=0)).decode()
    names = set(re.findall(r"^# HELP (base04_\w+)", text + of_workers, re.MULTILINE))
    page = (DOCS / "watch.md").read_text(encoding="utf-8")
    assert len(names) > 15
    assert [name for name in sorted(names) if f"`{name}`" not in page] == []
    named = set(re.findall(r"`(base04_\w+)`", page))
    assert sorted(named - names) == []
