"""The keys of this process: read from the vault, taken up anew when another process has rotated them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import structlog

from base04_builtin.jwt.claims import IssueClock
from base04_builtin.jwt.codec import TokenCodec
from base04_builtin.jwt.key_rules import public_part
from base04_builtin.jwt.key_set import KeySet, StoredKey, stored_key
from base04_builtin.jwt.key_store import VAULT_PATH, KeyStore
from base04_builtin.jwt.settings import JWTSettings
from base04_builtin.jwt.signing_key import new_jwk
from base04_hookspecs.errors import Base04Error, ConfigurationError, ManagerUnavailable
from base04_hookspecs.vault import VaultManager

log = structlog.get_logger()

_LOOK_PAUSE: Final = 5.0
"""How often a token with an unknown key makes the vault be read, in seconds: anybody can send one."""

_ATTEMPTS: Final = 5
_NOT_STARTED: Final = "The JWT manager has not started: start it first."


class KeyRing:
    """Which keys there are and which one signs.

    ``changed`` is called when the set is another. The library for key pairs is imported when there is one.
    """

    def __init__(
        self,
        settings: JWTSettings,
        vault: VaultManager,
        clock: IssueClock,
        changed: Callable[[], None],
        steady: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._vault = vault
        self._store = KeyStore(vault)
        self._clock = clock
        self._changed = changed
        self._steady = steady
        self._set: KeySet | None = None
        self._codec: TokenCodec | None = None
        self._changing = asyncio.Lock()
        self._looked_at = float("-inf")
        self.fault = ""

    @property
    def version(self) -> int:
        """The version of the set that is in use, 0 before the start."""
        return 0 if self._set is None else self._set.version

    async def start(self) -> None:
        """Read the keys, make the first one, or another one where the settings want another algorithm.

        Raises:
            ConfigurationError: the vault holds keys that cannot be used.
        """
        async with self._changing:
            found = await self._store.load() or await self._store.add(KeySet(1, (await self._new_key(0.0),)))
            if found.keys[-1].algorithm != self._settings.algorithm:
                found = await self._store.add(await self._successor(found, self._settings.rotation_delay))
            await self._take(found)
        await self._vault.watch_secret(VAULT_PATH, self._on_change)

    @property
    def codec(self) -> TokenCodec:
        """What signs and verifies with the present keys."""
        if self._codec is None:
            raise ManagerUnavailable(_NOT_STARTED)
        return self._codec

    async def look_for(self, kid: str) -> bool:
        """Read the vault for a key that is not known here, unless that was just done; tell whether it is there now."""
        now = self._steady()
        if now - self._looked_at < _LOOK_PAUSE:
            return False
        self._looked_at = now
        await self.reload()
        return any(key.kid == kid for key in self._present().keys)

    async def reload(self) -> None:
        """Take up the latest keys; keys that cannot be read or used leave the present ones, and are reported."""
        try:
            async with self._changing:
                found = await self._store.load()
                if found is not None and found.version > self.version:
                    await self._take(found)
        except Base04Error as error:
            self.fault = str(error)
            log.warning("signing keys not taken up", error=self.fault)
        else:
            self.fault = ""

    async def rotate(self, *, at_once: bool) -> tuple[StoredKey, list[StoredKey]]:
        """Make a new key; return it and the ones before.

        It signs after ``rotation_delay``, and with ``at_once`` immediately, where the others end at the same moment.
        Where another process has rotated at the same time, the key that it made is returned.
        """
        async with self._changing:
            for _ in range(_ATTEMPTS):
                before = await self._store.load() or self._present()
                successor = await self._successor(before, 0.0 if at_once else self._settings.rotation_delay, at_once)
                found = await self._store.add(successor)
                if not at_once or found.keys[-1].kid == successor.keys[-1].kid:
                    break
            else:
                raise ManagerUnavailable("Other processes keep rotating the signing keys: try again.")
            await self._take(found)
        log.info("signing keys rotated", version=found.version, kid=found.keys[-1].kid)
        kept = {key.kid for key in found.keys}
        return found.keys[-1], [key for key in before.keys if key.kid not in kept]

    async def tidy(self) -> None:
        """Remove keys and secrets of no more use from the vault; make a new key where the present one is old."""
        if self._is_due():
            await self.rotate(at_once=False)
        async with self._changing:
            present = self._present()
            tidied = present.tidied(self._clock.now())
            if tidied is not present:
                await self._take(await self._store.add(tidied))

    def public_keys(self) -> list[dict[str, Any]]:
        """Return the public parts of all keys that verify now; none of symmetric ones."""
        now = self._clock.now()
        keys = self._present().keys
        return [public_part(key.jwk) for key in keys if key.jwk["kty"] != "oct" and not key.has_ended(now)]

    def _is_due(self) -> bool:
        every, newest = self._settings.rotate_every, self._present().keys[-1]
        return every is not None and newest.signs_from + every <= self._clock.now()

    async def _on_change(self, path: str) -> None:
        await self.reload()

    async def _successor(self, before: KeySet, delay: float, at_once: bool = False) -> KeySet:
        settings = self._settings
        key = await self._new_key(delay)
        if at_once:
            return KeySet(before.version + 1, (key,))
        overlap = settings.longest_life if settings.key_overlap is None else settings.key_overlap
        return before.rotated(key, self._clock.now(), overlap)

    async def _new_key(self, delay: float) -> StoredKey:
        jwk = await asyncio.to_thread(new_jwk, self._settings.algorithm, self._settings.rsa_bits)
        now = self._clock.now()
        return stored_key(jwk, now, now + delay)

    async def _take(self, key_set: KeySet) -> None:
        """Use a set; where it is unusable that is found out before."""
        self._codec = await self._load(key_set)
        self._set = key_set
        self._changed()

    async def _load(self, key_set: KeySet) -> TokenCodec:
        try:
            if all(key.algorithm == "HS256" for key in key_set.keys):
                return TokenCodec(key_set, self._clock)
            return await asyncio.to_thread(TokenCodec, key_set, self._clock)  # imports the library, and tries pairs out
        except ValueError as error:
            raise ConfigurationError(f"The signing keys at {VAULT_PATH!r} of the vault are refused: {error}.") from None

    def _present(self) -> KeySet:
        if self._set is None:
            raise ManagerUnavailable(_NOT_STARTED)
        return self._set
