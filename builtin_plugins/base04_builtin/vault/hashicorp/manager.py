"""The provider ``hashicorp`` of the role ``vault``."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from base04_builtin.vault.hashicorp.cache import SecretCache
from base04_builtin.vault.hashicorp.client import Signature, VaultClient
from base04_builtin.vault.hashicorp.credentials import credentials
from base04_builtin.vault.hashicorp.fallback import Fallback
from base04_builtin.vault.hashicorp.health import condition
from base04_builtin.vault.hashicorp.session import VaultSession
from base04_builtin.vault.hashicorp.settings import HashicorpVaultSettings
from base04_builtin.vault.hashicorp.store import Change, Secrets, SecretStore
from base04_builtin.vault.hashicorp.threads import VaultThreads
from base04_builtin.vault.hashicorp.watch import VersionWatch
from base04_builtin.vault.names import check_key, check_path, check_value
from base04_hookspecs.errors import Base04Error, InvalidInput, ManagerUnavailable, NotFound
from base04_hookspecs.health import HealthReport, HealthStatus, health_report
from base04_hookspecs.vault import RotationCallback, VaultConnectionInfo, VaultManager

T = TypeVar("T")


class HashicorpVaultManager(VaultManager):
    """Secrets in a HashiCorp Vault or an OpenBao, in a KV engine of version 2.

    A secret is a string. What others stored as a number or a document is returned as its JSON text. Reads may be up to
    ``cache_ttl`` old; a change by this process is seen at once, one by others when a watched path is looked at next.

    Where settings declare a fallback file, it is read while the vault is sealed or out of reach, never when the vault
    refuses, and never written.
    """

    def __init__(self, settings: HashicorpVaultSettings) -> None:
        self._settings = settings
        self._threads = VaultThreads(settings.threads)
        self._client = VaultClient(settings)
        self._session = VaultSession(self._client, credentials(settings), self._threads)
        self._store = SecretStore(self._session, self._client, settings.timeout)
        self._cache = SecretCache(settings.cache_ttl)
        self._fallback = Fallback(settings.fallback.path) if settings.fallback else None
        self._watch = VersionWatch(
            self._look, self._cache.drop, interval=settings.watch_interval, lenient=settings.fallback is not None
        )
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._errors = 0

    def __repr__(self) -> str:
        return f"<HashicorpVaultManager address={self._settings.address!r} mount={self._settings.mount!r}>"

    async def start(self) -> None:
        """Log in, and see that the mount is of the right kind."""
        if self._fallback is not None:
            await self._fallback.check()
        try:
            await self._store.check()
        except ManagerUnavailable as error:
            if self._fallback is None:
                raise
            self._fallback.begin(str(error))

    async def stop(self) -> None:
        """End watching, give the token back, and close all connections."""
        await self._watch.stop()
        revoke = self._settings.revoke_on_stop
        await self._session.stop(revoke=revoke, timeout_s=min(self._settings.timeout, 5.0))
        self._threads.close()
        self._client.close()
        self._cache.clear()

    async def get_secret_value(self, path: str, key: str) -> str:
        """Return a secret."""
        _check_path(path)
        check_key(key)
        value = (await self._secrets(path)).get(key)
        if value is None:
            raise NotFound(
                f"There is no secret {key!r} at the path {path!r} in the vault {self._settings.address} (mount "
                f"{self._settings.mount!r}). Store it first, or correct the path and the key."
            )
        return _text(value)

    async def set_secret_value(self, path: str, key: str, value: str) -> bool:
        """Store a secret, and keep the other keys whoever writes at the same time."""
        check_value(_check_path(path), check_key(key), value)
        await self._change(path, lambda keys: {**keys, key: value})
        return True

    async def create_secret_value(self, path: str, key: str, value: str) -> str:
        """Store a secret where there is none; the vault decides who was first."""
        check_value(_check_path(path), check_key(key), value)

        def create(keys: Secrets) -> Secrets | None:
            return None if keys.get(key) is not None else {**keys, key: value}

        try:
            return _text((await self._change(path, create))[key])
        except ManagerUnavailable as error:
            if self._fallback is not None:  # one that is there already may be used, as by every reader
                there = (await self._from_fallback(path, error)).get(key)
                if there is not None:
                    return there
            raise

    async def delete_secret(self, path: str) -> bool:
        """Delete all keys of a path. Older versions stay in the vault until its limits or an operator remove them."""
        _check_path(path)
        try:
            return await self._reach(self._store.delete(path))
        finally:
            self._cache.drop(path)
            self._watch.nudge(path)

    async def list_secrets(self, prefix: str = "") -> list[str]:
        """Return the paths that begin with the prefix, without deleted ones; asks once for each folder and path."""
        folder = prefix.rpartition("/")[0]
        if folder:
            try:
                _check_path(folder)
            except InvalidInput:
                return []
        try:
            return await self._reach(self._store.list_paths(folder, prefix))
        except ManagerUnavailable as error:
            if self._fallback is None:
                raise
            self._fallback.begin(str(error))
            return sorted(path for path in await self._fallback.read() if path.startswith(prefix))

    async def watch_secret(self, path: str, callback: RotationCallback) -> bool:
        """Call back when the version of a path has changed; several changes between two looks are announced as one."""
        await self._watch.add(_check_path(path), callback)
        return True

    async def health_check(self) -> HealthReport:
        """Ask for the vault's own health, and whether it accepts this process."""
        began = time.perf_counter()
        try:
            known = condition(await self._store.health_status())
            if known.serves:
                await self._store.check_token()
        except ManagerUnavailable as error:
            return self._unserved(str(error), began)
        except Base04Error as error:
            return self._report("unhealthy", str(error), began)
        if not known.serves:
            return self._unserved(known.details, began)
        if self._fallback is not None and self._fallback.reason is not None:
            self._fallback.end()
        return self._report("healthy", known.details, began)

    async def get_connection_info(self) -> VaultConnectionInfo:
        """Return where the vault is, how this process logs in, and whether it is accepted."""
        try:
            await self._store.check_token()
        except Base04Error:
            accepted = False
        else:
            accepted = True
        return {
            "provider": "hashicorp",
            "address": self._settings.address,
            "authentication": self._session.method,
            "authenticated": accepted,
        }

    async def _secrets(self, path: str) -> dict[str, Any]:
        """Return the keys of a path; those who ask at the same time share one request."""
        kept = self._cache.get(path)
        if kept is not None:
            return kept
        async with self._reading.setdefault(path, asyncio.Lock()):
            kept = self._cache.get(path)
            if kept is not None:
                return kept
            if self._fallback is not None and self._fallback.skips_vault:
                return await self._from_fallback(path, ManagerUnavailable(str(self._fallback.reason)))
            age = self._cache.age(path)
            try:
                keys = (await self._reach(self._store.read(path))).data
            except ManagerUnavailable as error:
                if self._fallback is None:
                    raise
                self._fallback.begin(str(error))
                return await self._from_fallback(path, error)
            if keys is not None:
                self._cache.put(path, keys, age)
            return keys or {}

    async def _from_fallback(self, path: str, error: ManagerUnavailable) -> dict[str, str]:
        if self._fallback is None:
            raise error
        keys = (await self._fallback.read()).get(path)
        if keys is None:
            raise ManagerUnavailable(
                f"{error} The fallback file {self._fallback.path} has nothing at the path {path!r}.",
                retry_after=error.retry_after,
            ) from error
        return keys

    async def _change(self, path: str, change: Change) -> Secrets:
        try:
            keys = await self._reach(self._store.change(path, change))
        except BaseException:
            self._cache.drop(path)
            raise
        self._cache.drop(path)
        self._cache.put(path, keys, self._cache.age(path))
        self._watch.nudge(path)
        return keys

    async def _look(self, path: str) -> Signature | None:
        return await self._reach(self._store.signature(path))

    async def _reach(self, asking: Awaitable[T]) -> T:
        """Await an answer of the vault, and count when there is none."""
        try:
            answer = await asking
        except Base04Error:
            self._errors += 1
            raise
        if self._fallback is not None:
            self._fallback.end()
        return answer

    def _unserved(self, reason: str, began: float) -> HealthReport:
        if self._fallback is None:
            return self._report("unhealthy", reason, began)
        self._fallback.begin(reason)
        return self._report("degraded", f"stale: secrets come from {self._fallback.path}, because {reason}", began)

    def _report(self, status: HealthStatus, details: str, began: float) -> HealthReport:
        return health_report(
            status,
            details,
            connections=self._threads.busy,
            errors=self._errors,
            response_time=time.perf_counter() - began,
            cached_paths=len(self._cache),
            stale=float(self._fallback is not None and self._fallback.reason is not None),
        )


def _check_path(path: str) -> str:
    """Refuse what would be another path once it is part of an address, too."""
    check_path(path)
    if any(part in (".", "..") for part in path.split("/")) or not path.isprintable():
        raise InvalidInput(f"The path {path!r} of a secret cannot be used: '.' and '..' are no names in a vault.")
    return path


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
