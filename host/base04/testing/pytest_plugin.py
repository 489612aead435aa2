"""The pytest plugin ``base04``: fixtures for whoever has Base04 and pytest installed, and a look for forgotten hosts.

It imports neither the host nor the contracts before a test asks for something. ``-p no:base04`` leaves it out.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, Final

import pytest

from base04.testing.actions import action_folders, action_plugins, action_settings, actions
from base04.testing.fixtures.fakes import clock, clock_packages, fake_settings
from base04.testing.fixtures.hosts import app_plugins, app_settings, async_fixtures, blocking_app, refused_fixtures
from base04.testing.fixtures.servers import (
    ferretdb_server,
    postgres_database,
    postgres_server,
    redis_server,
    redis_url,
    vault_server,
)
from base04.testing.forgotten import running_hosts, stop_forgotten

if TYPE_CHECKING:
    from base04.app_manager import AppManager

__all__ = [
    "action_folders",
    "action_plugins",
    "action_settings",
    "actions",
    "app_plugins",
    "app_settings",
    "blocking_app",
    "clock",
    "clock_packages",
    "fake_settings",
    "ferretdb_server",
    "postgres_database",
    "postgres_server",
    "redis_server",
    "redis_url",
    "vault_server",
]

_begun: Final = pytest.StashKey[frozenset["AppManager"]]()


def pytest_configure(config: pytest.Config) -> None:
    """Make the async fixtures with whatever runs async fixtures in this run."""
    manager = config.pluginmanager
    if any(manager.hasplugin(name) for name in ("asyncio", "pytest_asyncio", "pytest_asyncio.plugin")):
        import pytest_asyncio

        fixtures = async_fixtures(pytest_asyncio.fixture)
    elif any(manager.hasplugin(name) for name in ("anyio", "anyio.pytest_plugin")):
        fixtures = async_fixtures(pytest.fixture)
    else:
        fixtures = refused_fixtures()
    manager.register(fixtures, "base04-hosts")


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
