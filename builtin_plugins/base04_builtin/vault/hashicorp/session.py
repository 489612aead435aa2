"""The token in use: got by logging in, renewed before its end, and got anew when it can be renewed no longer."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, TypeVar

import structlog

from base04_builtin.vault.hashicorp.client import Lease, VaultClient
from base04_builtin.vault.hashicorp.credentials import Credentials
from base04_builtin.vault.hashicorp.threads import VaultThreads
from base04_hookspecs.errors import Base04Error, PermissionDenied

T = TypeVar("T")

_EARLIEST, _LATEST = 0.6, 0.8
_SHRUNK: Final = 0.9
_SHORTEST_WAIT_S: Final = 0.2
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 30.0

log = structlog.get_logger()


class VaultSession:
    """Takes steps with a token that is alive.

    A token is renewed after 60 to 80 percent of its life. When the vault gives less than it gave before, the end of
    its greatest life has come near, and the next time a new one is got. A step that is refused is taken once more with
    a new token where it turns out that the vault does not know the old one any longer.
    """

    def __init__(self, client: VaultClient, credentials: Credentials, threads: VaultThreads) -> None:
        self._client, self._credentials, self._threads = client, credentials, threads
        self._lease: Lease | None = None
        self._ends = 0.0
        self._spent = False
        self._logging_in = asyncio.Lock()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    @property
    def method(self) -> str:
        """How this process logs in."""
        return self._credentials.name

    async def call(self, step: Callable[..., T], *args: object) -> T:
        """Take a step with a token.

        Raises:
            PermissionDenied: the vault accepts neither the credentials, or refuses this step to them.
        """
        lease = await self.log_in()
        try:
            return await self._threads.call(step, *args)
        except PermissionDenied:
            if await self._knows(lease):
                raise
        await self._replace(lease)
        return await self._threads.call(step, *args)

    async def call_openly(self, step: Callable[[], T]) -> T:
        """Take a step that needs no token."""
        return await self._threads.call(step)

    async def log_in(self) -> Lease:
        """Return the token in use; get one where there is none, or the last has ended."""
        if self._lease is None or time.monotonic() >= self._ends:
            await self._replace(self._lease)
        return self._lease  # type: ignore[return-value]  # _replace has set it, or raised

    async def stop(self, *, revoke: bool, timeout_s: float) -> None:
        """Renew no longer; give the token back where this process got it."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if revoke and self._credentials.own and self._lease is not None:
            try:
                async with asyncio.timeout(timeout_s):
                    await self._threads.call(self._client.revoke_token)
            except (Base04Error, TimeoutError) as error:
                log.warning("vault token not revoked", error=str(error) or "no answer in time")
        self._lease = None

    async def _knows(self, lease: Lease) -> bool:
        """Ask whether the vault still accepts the token; says no where another one is in use by now."""
        if self._lease is not lease:
            return False
        try:
            await self._threads.call(self._client.look_up_token)
        except PermissionDenied:
            return False
        return True

    async def _replace(self, old: Lease | None) -> None:
        """Log in, unless somebody else has done so since ``old`` was the token in use."""
        async with self._logging_in:
            if self._lease is not None and self._lease is not old:
                return
            lease = await self._threads.call(self._credentials.log_in, self._client)
            self._client.use_token(lease.token)
            self._adopt(lease, spent=False)
            if self._credentials.own:
                log.info("logged in to the vault", method=self.method, ttl=lease.ttl, renewable=lease.renewable)

    def _adopt(self, lease: Lease, *, spent: bool) -> None:
        self._lease, self._spent = lease, spent
        self._ends = time.monotonic() + lease.ttl if lease.ttl else float("inf")
        self._changed.set()
        if self._task is None and lease.ttl:
            self._task = asyncio.create_task(self._keep_alive(), name="vault-token")

    async def _keep_alive(self) -> None:
        failures = 0
        while True:
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause(failures)):
                    await self._changed.wait()
                    failures = 0
                    continue
            try:
                await self._prolong()
                failures = 0
            except Base04Error as error:
                failures += 1
                log.warning("vault token not prolonged", method=self.method, error=str(error))

    def _pause(self, failures: int) -> float:
        """Return how long to wait before the token is prolonged, or that is tried again; with jitter."""
        spread = random.uniform(_EARLIEST, _LATEST)  # noqa: S311 - jitter, not a secret
        if failures:
            return min(_FIRST_WAIT_S * 2.0 ** min(failures, 10), _LONGEST_WAIT_S) * spread
        if self._lease is None or not self._lease.ttl:
            return _LONGEST_WAIT_S
        return max((self._ends - time.monotonic()) * spread, _SHORTEST_WAIT_S)

    async def _prolong(self) -> None:
        """Renew the token, or get a new one where renewing does not help any longer."""
        lease = self._lease
        if lease is None or not lease.ttl:
            return
        if lease.renewable and not (self._spent and self._credentials.own) and time.monotonic() < self._ends:
            try:
                renewed = await self._threads.call(self._client.renew_token)
            except PermissionDenied:
                pass  # it has been revoked, or this process may not renew it
            else:
                if self._lease is lease:
                    self._adopt(renewed, spent=renewed.ttl < lease.ttl * _SHRUNK)
                return
        await self._replace(lease)
