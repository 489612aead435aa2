"""What the tests of the provider ``hashicorp`` share: a vault to talk to, and managers that do."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from base04.testing.servers.vault import VaultServer
from base04_builtin.vault.hashicorp.manager import HashicorpVaultManager
from base04_builtin.vault.hashicorp.settings import HashicorpVaultSettings

REAL_ADDRESS = os.environ.get("BASE04_TEST_VAULT_ADDR", "")
REAL_TOKEN = os.environ.get("BASE04_TEST_VAULT_TOKEN", "")


def settings(vault: VaultServer, **given: Any) -> HashicorpVaultSettings:
    """Return settings for the stand-in: the root token, unless another way to log in is given."""
    if not {"token", "token_file", "approle", "kubernetes"} & given.keys():
        given["token"] = vault.root_token
    defaults = {"address": vault.address, "watch_interval": "50ms", "timeout": "20s"}
    return HashicorpVaultSettings.model_validate({**defaults, **given})


@asynccontextmanager
async def manager_of(chosen: HashicorpVaultSettings) -> AsyncIterator[HashicorpVaultManager]:
    """Return a started manager, and stop it."""
    manager = HashicorpVaultManager(chosen)
    try:
        await manager.start()
        yield manager
    finally:
        await manager.stop()


@asynccontextmanager
async def manager_at(vault: VaultServer, **given: Any) -> AsyncIterator[HashicorpVaultManager]:
    """Return a started manager of the stand-in, and stop it."""
    async with manager_of(settings(vault, **given)) as manager:
        yield manager


async def until(holds: Callable[[], bool], timeout_s: float = 30.0) -> None:
    """Wait for something that no event announces."""
    async with asyncio.timeout(timeout_s):
        while not holds():
            await asyncio.sleep(0.01)
