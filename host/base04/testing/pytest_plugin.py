"""The pytest plugin ``base04``: fixtures for whoever has Base04 and pytest installed, and a look for forgotten hosts.

It imports neither the host nor the contracts before a test asks for something. ``-p no:base04`` leaves it out.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

import pytest

from base04.testing.fixtures.offer import Offer
from base04.testing.forgotten import running_hosts, stop_forgotten

if TYPE_CHECKING:
    from base04.app_manager import AppManager

_left_out: Final = pytest.StashKey[list[str]]()
_begun: Final = pytest.StashKey[frozenset["AppManager"]]()


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Offer the fixtures, those that are async made by whatever runs async fixtures in this run."""
    manager = config.pluginmanager
    decorate: Any = None
    if any(manager.hasplugin(name) for name in ("asyncio", "pytest_asyncio", "pytest_asyncio.plugin")):
        import pytest_asyncio

        decorate = pytest_asyncio.fixture
    elif any(manager.hasplugin(name) for name in ("anyio", "anyio.pytest_plugin")):
        decorate = pytest.fixture
    offer = Offer(manager.get_plugins(), decorate)
    config.stash[_left_out] = offer.left_out
    manager.register(offer.fixtures, "base04-fixtures")


def pytest_report_header(config: pytest.Config) -> list[str]:
    """Tell which fixtures are left to other plugins."""
    left_out = config.stash[_left_out]
    if not left_out:
        return []
    return [f"base04: the fixtures {', '.join(left_out)} are left to other plugins, or need what is"]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Note which hosts a test starts."""
    before = running_hosts()
    try:
        return (yield)
    finally:
        item.stash[_begun] = running_hosts() - before


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Generator[None, Any, Any]:
    """Stop the hosts that a test started and that neither it nor its fixtures have stopped, and say so."""
    try:
        return (yield)
    finally:
        forgotten = item.stash.get(_begun, frozenset()) & running_hosts()
        item.stash[_begun] = frozenset()
        if forgotten:
            pytest.fail(stop_forgotten(forgotten), pytrace=False)
