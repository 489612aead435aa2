"""The conformance suite of the role ``rate_limiter`` finds out what is declared wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from base04.testing.conformance.rate_limiter import Another
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from rate_limiter_kit import SUITE, GcraConformance, process, sqlite_in

TELLTALES: Final = {
    "atomic_levels": "test_refusal_of_one_level_consumes_none",
    "burst": "test_cost_consumes_that_much",
    "exact": "test_exact_limit_holds_in_every_window",
    "bans": "test_ban_refuses_until_it_is_lifted",
    "durable_bans": "test_bans_outlive_what_holds_them_if_declared",
    "auto_ban": "test_who_is_refused_too_often_is_banned_if_declared",
    "shared": "test_processes_count_together_if_declared",
}
"""For each capability, the test that fails where it is declared and missing, or there and not declared."""


@pytest.fixture
def another(tmp_path: Path) -> Another:
    return lambda: process(MemoryRedisManager(MemoryRedisSettings()), sqlite_in(tmp_path), **SUITE)


@pytest.mark.parametrize("capability", TELLTALES)
async def test_suite_passes_what_is_true_and_fails_what_is_not(capability: str, another: Another) -> None:
    class Truthful(GcraConformance):
        pass

    class Lying(GcraConformance):
        capabilities = GcraConformance.capabilities ^ {capability}

    for suite in (Truthful(), Lying()):
        async with another() as manager:
            test = getattr(suite, TELLTALES[capability])
            given = (manager, another) if "another" in test.__code__.co_varnames else (manager,)
            if isinstance(suite, Truthful):
                await test(*given)
            else:
                with pytest.raises((AssertionError, pytest.fail.Exception)):
                    await test(*given)
