from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from kept import KeptHooksManager

from base04.testing.conformance.hooks import HooksConformance


class TestKept(HooksConformance):
    capabilities = frozenset()

    @pytest.fixture
    async def manager(self) -> AsyncIterator[KeptHooksManager]:
        manager = KeptHooksManager()
        await manager.start()
        yield manager
        await manager.stop()


async def test_events_are_kept() -> None:
    manager = KeptHooksManager()
    await manager.trigger_hook("order.paid", order=7)
    assert list(manager.kept) == ["order.paid"]
