"""The secrets of a path as one thing: read whole, and changed by check-and-set."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakValueDictionary

from base04_builtin.vault.hashicorp.client import Signature, Snapshot, VaultClient
from base04_builtin.vault.hashicorp.session import VaultSession
from base04_hookspecs.errors import Conflict, ManagerUnavailable, NotFound, OutcomeUnknown, PermissionDenied

Secrets = dict[str, Any]
Change = Callable[[Secrets], Secrets | None]
"""Makes the new content of a path from the old; None where it may stay as it is."""

_RETRY_S: Final = 0.2
_LISTED_AT_ONCE: Final = 4


@dataclass(slots=True)
class _Attempt:
    """What was sent last, whether it is open what came of it, and why."""

    sent: Snapshot | None = None
    open: bool = False
    reason: str = ""


class SecretStore:
    """Reads and changes secrets, each within ``timeout_s`` seconds.

    Writers of one process take turns; between processes the vault lets the first one win, and the other reads anew.
    When a reply is lost, the path is read again to see what came of it.
    """

    def __init__(self, session: VaultSession, client: VaultClient, timeout_s: float) -> None:
        self._session, self._client, self._timeout_s = session, client, timeout_s
        self._without_metadata: set[str] = set()
        self._few = asyncio.Semaphore(_LISTED_AT_ONCE)
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def read(self, path: str) -> Snapshot:
        """Return what a path holds now."""
        async with _in_time(self._timeout_s, f"read the secret at {path!r}"):
            return await self._session.call(self._client.read, path)

    async def change(self, path: str, change: Change) -> Secrets:
        """Change a path, and return what it holds then.

        Raises:
            OutcomeUnknown: the connection broke, and what came of the change cannot be found out.
            ManagerUnavailable: nothing was changed.
        """
        attempt = _Attempt()
        task = f"store the secret at {path!r}"
        try:
            async with _in_time(self._timeout_s, task), self._turns.setdefault(path, asyncio.Lock()):
                return await self._changed(path, change, attempt)
        except ManagerUnavailable as error:
            if not attempt.open:
                raise
            raise OutcomeUnknown(f"{error} It may or may not have been stored. {attempt.reason}".rstrip()) from error

    async def delete(self, path: str) -> bool:
        """Delete a path, and tell whether it held anything. May be repeated, so a lost reply is no harm."""
        async with (
            _in_time(self._timeout_s, f"delete the secret at {path!r}"),
            self._turns.setdefault(path, asyncio.Lock()),
        ):
            found = False
            while (await self._session.call(self._client.read, path)).data is not None:
                found = True
                try:
                    await self._session.call(self._client.delete, path)
                except OutcomeUnknown:
                    await asyncio.sleep(_RETRY_S)
                else:
                    break
            return found

    async def list_paths(self, folder: str, prefix: str) -> list[str]:
        """Return the paths below a folder that begin with the prefix and hold something, sorted."""
        paths: list[str] = []
        folders = [folder]
        while folders:
            found = await asyncio.gather(*(self._list_folder(each) for each in folders))
            names = [
                f"{each}/{name}".lstrip("/") for each, inside in zip(folders, found, strict=True) for name in inside
            ]
            folders = [name[:-1] for name in names if name.endswith("/") and _leads_to(name, prefix)]
            paths += [name for name in names if not name.endswith("/") and name.startswith(prefix)]
        there = await asyncio.gather(*(self._holds_something(path) for path in paths))
        return sorted(path for path, holds in zip(paths, there, strict=True) if holds)

    async def check(self) -> None:
        """Log in, and see that the mount is a KV engine of version 2, as far as this process may know."""
        async with _in_time(self._timeout_s, "let this process in"):
            await self._session.log_in()
            with suppress(PermissionDenied, NotFound):
                await self._session.call(self._client.check_engine)

    async def check_token(self) -> None:
        """Raise where the vault does not accept this process."""
        async with _in_time(self._timeout_s, "accept the token"):
            await self._session.call(self._client.look_up_token)

    async def health_status(self) -> int:
        """Return the status code of ``sys/health``."""
        async with _in_time(self._timeout_s, "tell its health"):
            return await self._session.call_openly(self._client.health_status)

    async def signature(self, path: str) -> Signature | None:
        """Return what changes with the secrets of a path, None where there are none.

        Where this process may not read metadata, the secrets themselves are read, for their version alone.
        """
        if path not in self._without_metadata:
            try:
                async with _in_time(self._timeout_s, f"read the metadata of {path!r}"):
                    return await self._session.call(self._client.signature, path)
            except PermissionDenied:
                self._without_metadata.add(path)
        found = await self.read(path)
        return None if found.data is None else (found.version,)

    async def _list_folder(self, folder: str) -> list[str]:
        async with self._few, _in_time(self._timeout_s, f"list the secrets at {folder!r}"):
            return await self._session.call(self._client.list_folder, folder)

    async def _holds_something(self, path: str) -> bool:
        """Tell whether a listed path has not been deleted; yes where this process may not know."""
        try:
            async with self._few:
                return await self.signature(path) is not None
        except PermissionDenied:
            return True

    async def _changed(self, path: str, change: Change, attempt: _Attempt) -> Secrets:
        while True:
            try:
                before = await self._session.call(self._client.read, path)
                if attempt.open and await self._landed(path, before, attempt):
                    return attempt.sent.data or {}  # type: ignore[union-attr]  # an open attempt was sent
            except ManagerUnavailable:
                if not attempt.open:
                    raise
                await asyncio.sleep(_RETRY_S)
                continue
            after = change(dict(before.data or {}))
            if after is None:
                return before.data or {}
            if await self._sent(path, Snapshot(before.version + 1, after), attempt):
                return after

    async def _sent(self, path: str, snapshot: Snapshot, attempt: _Attempt) -> bool:
        was_open = attempt.open
        attempt.sent, attempt.open = snapshot, True
        try:
            await self._session.call(self._client.write, path, snapshot.data, snapshot.version - 1)
        except Conflict:
            attempt.open = was_open  # an earlier one, whose reply was lost, may be what is in the way
            await asyncio.sleep(random.uniform(0.0, 0.05))  # noqa: S311 - jitter, not a secret
            return False
        except OutcomeUnknown as error:
            attempt.reason = str(error)
            await asyncio.sleep(_RETRY_S)
            return False
        except asyncio.CancelledError:
            raise  # by the timeout as well: the request may be on its way
        except BaseException:
            attempt.open = was_open
            raise
        return True

    async def _landed(self, path: str, now: Snapshot, attempt: _Attempt) -> bool:
        """Find out what came of a write whose reply was lost: a version is written once, by whoever came first."""
        sent = attempt.sent
        if sent is None or now.version < sent.version:
            return False  # it did not arrive; should it do so now, one of the two is refused
        there = now if now.version == sent.version else await self._session.call(self._client.read, path, sent.version)
        attempt.open = False
        return there.data == sent.data


def _leads_to(folder: str, prefix: str) -> bool:
    """Tell whether a folder, written with its final ``/``, can hold paths that begin with a prefix."""
    return folder.startswith(prefix) or prefix.startswith(folder)


@asynccontextmanager
async def _in_time(timeout_s: float, task: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError as error:
        raise ManagerUnavailable(f"The vault did not {task} within {timeout_s:g} s.") from error
