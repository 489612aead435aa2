"""The provider ``database`` of the role ``api_key``."""

from __future__ import annotations

import base64
import binascii
import hmac
import math
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import structlog
from pydantic import Field

from base04_builtin.api_key.cache import KeyCache
from base04_builtin.api_key.key_text import digest_of, id_of, is_id, new_key
from base04_builtin.api_key.permissions import caller_key_id, check_caller_may_give, checked_permissions
from base04_builtin.api_key.records import KeyRecord, KeyTable
from base04_builtin.api_key.usage import UsageLog
from base04_hookspecs.api_key import ApiKeyInfo, ApiKeyManager
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import (
    ConfigurationError,
    Conflict,
    InvalidInput,
    MalformedApiKey,
    NotFound,
    PermissionDenied,
    RevokedToken,
    UnknownApiKey,
)
from base04_hookspecs.health import HealthReport, health_report
from base04_hookspecs.jwt import JWTManager
from base04_hookspecs.rate_limiter import RateLimit
from base04_hookspecs.settings import ManagerSettings
from base04_hookspecs.vault import VaultManager

log = structlog.get_logger()

VAULT_PATH: Final = "base04/api_key"
VAULT_KEY: Final = "pepper"
SOURCE: Final = "api_key"
"""The claims source of tokens that were had for a key."""

_PEPPER_BYTES: Final = 32
_MAX_TEXT: Final = 255
_MAX_PAGE: Final = 1000


class ApiKeySettings(ManagerSettings):
    """How keys are looked up. Times are in seconds.

    ``cache_max_age`` is the most by which a change by another process may be seen late, 0 for none; a change by this
    process is in effect at once. ``usage_interval`` is how often uses are stored, ``usage_size`` for how many keys they
    are kept until then.
    """

    cache_size: int = Field(default=1024, ge=1, le=1_000_000)
    cache_max_age: float = Field(default=1.0, ge=0, le=60, allow_inf_nan=False)
    usage_interval: float = Field(default=5.0, gt=0, le=3600, allow_inf_nan=False)
    usage_size: int = Field(default=1024, ge=1, le=100_000)


class DatabaseApiKeyManager(ApiKeyManager):
    """Keys in the database, as hashes under a pepper that the vault keeps.

    With a ``jwt`` manager, tokens that were had for a key (source ``api_key:<id>``) get the permissions that the key
    has at each refresh, and end with it. A caller who was let in by a key gets none that outlives it.
    """

    def __init__(
        self,
        settings: ApiKeySettings,
        database: DatabaseManager,
        vault: VaultManager,
        jwt: JWTManager | None,
        *,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._vault = vault
        self._jwt = jwt
        self._clock = clock or time.time
        self._table = KeyTable(database)
        self._cache = KeyCache(settings.cache_size, settings.cache_max_age)
        self._usage = UsageLog(self._table, settings.usage_interval, settings.usage_size)
        self._pepper = b""
        self._unknown = ""

    def __repr__(self) -> str:
        return "<DatabaseApiKeyManager>"

    async def start(self) -> None:
        """Get the pepper and the table, and tell the ``jwt`` manager where claims come from."""
        await self._table.prepare()
        self._pepper = await self._stored_pepper()
        self._unknown = digest_of("", self._pepper)
        if self._jwt is not None:
            await self._jwt.register_claims_source(SOURCE, self._claims_of)
        self._usage.start()

    async def stop(self) -> None:
        """Store the last uses that wait."""
        await self._usage.stop()

    async def health_check(self) -> HealthReport:
        """Ask the database."""
        began = time.perf_counter()
        reachable = await self._table.answers()
        return health_report(
            "healthy" if reachable else "unhealthy",
            "keys can be looked up" if reachable else "keys cannot be looked up: the database does not answer",
            response_time=time.perf_counter() - began,
            dependencies={"database": "healthy" if reachable else "unhealthy"},
            usage_waiting=len(self._usage),
            usage_dropped=self._usage.dropped,
            cached=len(self._cache),
        )

    async def generate_api_key(
        self,
        user_id: str,
        permissions: Sequence[str] | None = None,
        *,
        name: str = "",
        expires_in: float | None = None,
        rate_limit: str | None = None,
    ) -> str:
        """Create a key and return it."""
        _check_text("user id", user_id, least=1)
        _check_text("name", name)
        granted = checked_permissions(permissions)
        if expires_in is not None:
            _check_seconds("expires_in", expires_in, positive=True)
        if rate_limit is not None:
            RateLimit.parse(rate_limit)
        check_caller_may_give(granted)
        now = self._clock()
        wanted = None if expires_in is None else now + expires_in
        expires_at = await self._end_for_caller(wanted, cut=expires_in is None)
        key, key_id = new_key()
        record = KeyRecord(
            key_id, digest_of(key, self._pepper), user_id, name, tuple(granted), rate_limit, now, expires_at
        )
        await self._table.insert(record)
        log.info("API key created", key_id=key_id, user_id=user_id)
        return key

    async def validate_api_key(self, api_key: str) -> ApiKeyInfo:
        """Return what is known of a key that is valid now."""
        key_id = id_of(api_key)
        if key_id is None:
            raise MalformedApiKey("it is malformed, or its checksum is wrong")
        record = await self._looked_up(key_id)
        if not self._matches(record, api_key) or record is None:
            raise UnknownApiKey("it is not known")
        now = self._clock()
        fault = record.fault_at(now)
        if fault is not None:
            raise fault
        self._usage.note(key_id, now)
        return self._info(record)

    async def revoke_api_key(self, api_key: str) -> bool:
        """Revoke a key durably, then the tokens that were had for it.

        Where the tokens cannot be revoked, that is raised, and another call tries them again.
        """
        record = await self._known(api_key)
        if record is None:
            return False
        where = {"key_id": record.key_id, "revoked_at": None}
        revoked = await self._changed(record.key_id, where, {"revoked_at": self._clock()})
        if revoked:
            log.info("API key revoked", key_id=record.key_id, user_id=record.user_id)
        await self._revoke_tokens(record.key_id)
        return revoked

    async def roll_api_key(self, api_key: str, *, overlap: float = 0.0) -> str:
        """Create a key that takes the place of another, with its permissions and its end, and return it.

        Raises:
            NotFound: there is no such key, or it is revoked or expired.
            Conflict: it was rolled before.
            PermissionDenied: within a request, the caller does not hold what the key grants, or holds it for less long.
        """
        _check_seconds("overlap", overlap)
        old = await self._valid_record(api_key)
        check_caller_may_give(old.permissions)
        expires_at = await self._end_for_caller(old.expires_at)
        now = self._clock()
        key, key_id = new_key()
        new = KeyRecord(
            key_id,
            digest_of(key, self._pepper),
            old.user_id,
            old.name,
            old.permissions,
            old.rate_limit,
            now,
            expires_at,
        )
        change = {"expires_at": min(now + overlap, old.expires_at or math.inf)} if overlap else {"revoked_at": now}
        try:
            replaced = await self._table.replace(old, change, new)
        finally:
            self._cache.drop(old.key_id)
        if not replaced:
            await self._valid_record(old.key_id)
            raise Conflict(f"The API key {old.key_id!r} has been rolled before: roll the key that took its place.")
        if not overlap:
            await self._revoke_tokens(old.key_id)
        log.info("API key rolled", key_id=old.key_id, replaced_by=key_id, user_id=old.user_id)
        return key

    async def get_api_key_info(self, api_key: str) -> ApiKeyInfo:
        """Return what is known of a key, valid or not."""
        return self._info(await self._found(api_key))

    async def update_api_key_permissions(self, api_key: str, permissions: Sequence[str]) -> bool:
        """Replace the permissions of a key; tokens that were had for it get them when they are refreshed."""
        granted = checked_permissions(permissions)
        check_caller_may_give(granted)
        record = await self._known(api_key)
        if record is None:
            return False
        return await self._changed(record.key_id, {"key_id": record.key_id}, {"permissions": granted})

    async def list_api_keys(
        self, user_id: str | None = None, *, limit: int = 100, offset: int = 0, include_revoked: bool = False
    ) -> list[ApiKeyInfo]:
        """Return keys, newest first, at most 1000 at a time."""
        for name, value in (("limit", limit), ("offset", offset)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise InvalidInput(f"The {name} {value!r} cannot be used: give a number from 0.")
        where: dict[str, Any] = {} if include_revoked else {"revoked_at": None}
        if user_id is not None:
            where["user_id"] = user_id
        records = await self._table.page(where, min(limit, _MAX_PAGE), offset)
        return [self._info(record) for record in records]

    async def _looked_up(self, key_id: str) -> KeyRecord | None:
        cached = self._cache.get(key_id)
        if cached is not None:
            return cached
        epoch = self._cache.epoch
        record = await self._table.get(key_id)
        if record is not None:
            self._cache.keep(record, epoch)
        return record

    def _matches(self, record: KeyRecord | None, key: str) -> bool:
        """Compare in constant time; an unknown key costs the same work as a wrong one."""
        expected = self._unknown if record is None else record.digest
        same = hmac.compare_digest(expected, digest_of(key, self._pepper))
        return same and record is not None

    async def _known(self, api_key: str) -> KeyRecord | None:
        """Return the stored key for a public id, or for a whole key whose secret is right."""
        if is_id(api_key):
            return await self._table.get(api_key)
        key_id = id_of(api_key)
        record = await self._table.get(key_id) if key_id is not None else None
        return record if record is not None and self._matches(record, api_key) else None

    async def _found(self, api_key: str) -> KeyRecord:
        record = await self._known(api_key)
        if record is None:
            raise NotFound("There is no such API key: give its public id, or the whole key as it was shown once.")
        return record

    async def _valid_record(self, api_key: str) -> KeyRecord:
        record = await self._found(api_key)
        fault = record.fault_at(self._clock())
        if fault is not None:
            raise NotFound(f"The API key cannot be rolled, because {fault.reason}: create a new one.")
        return record

    async def _end_for_caller(self, ends_at: float | None, *, cut: bool = False) -> float | None:
        """Return when a key ends that the caller gets; one that was had for a key cannot outlive it.

        Where it would, it is ``cut`` to that end.

        Raises:
            PermissionDenied: it would outlive it, or the caller's own key is not valid any more.
        """
        maker_id = caller_key_id()
        if maker_id is None:
            return ends_at
        maker = await self._table.get(maker_id)
        if maker is None or maker.fault_at(self._clock()) is not None:
            raise PermissionDenied("The API key of the caller is not valid any more, so it can make no other.")
        if maker.expires_at is None or (ends_at is not None and ends_at <= maker.expires_at):
            return ends_at
        if not cut:
            raise PermissionDenied("A key can make none that outlives it: let the new one end sooner.")
        return maker.expires_at

    async def _changed(self, key_id: str, where: Mapping[str, Any], change: Mapping[str, Any]) -> bool:
        try:
            return await self._table.change(where, change)
        finally:
            self._cache.drop(key_id)

    def _info(self, record: KeyRecord) -> ApiKeyInfo:
        return record.used(self._usage.noted(record.key_id)).info()

    async def _revoke_tokens(self, key_id: str) -> None:
        if self._jwt is not None:
            await self._jwt.revoke_source_tokens(f"{SOURCE}:{key_id}")

    async def _claims_of(self, user_id: str, key_id: str) -> Mapping[str, Any]:
        record = await self._table.get(key_id)
        if record is None or record.user_id != user_id:
            raise RevokedToken("the API key of the token is not known")
        fault = record.fault_at(self._clock())
        if fault is not None:
            raise RevokedToken(f"the API key of the token is not valid: {fault.reason}")
        claims = {"permissions": list(record.permissions), "api_key_id": key_id}
        further = {"rate_limit": record.rate_limit, "exp": record.expires_at}
        return claims | {name: value for name, value in further.items() if value is not None}

    async def _stored_pepper(self) -> bytes:
        fresh = base64.urlsafe_b64encode(secrets.token_bytes(_PEPPER_BYTES)).decode()
        kept = await self._vault.create_secret_value(VAULT_PATH, VAULT_KEY, fresh)
        try:
            pepper = base64.b64decode(kept, b"-_", validate=True)
        except (binascii.Error, ValueError):
            pepper = b""  # no chaining: the error's traceback would hold the pepper
        if len(pepper) < _PEPPER_BYTES:
            raise ConfigurationError(
                f"The pepper at {VAULT_PATH!r}, {VAULT_KEY!r} of the vault cannot be used: expected at least "
                f"{_PEPPER_BYTES} bytes as base64url. Restore it: with another one, no existing API key is valid."
            )
        return pepper


def _check_text(what: str, value: object, *, least: int = 0) -> None:
    if not isinstance(value, str) or not least <= len(value) <= _MAX_TEXT or not _is_plain(value):
        raise InvalidInput(
            f"The {what} {value!r} cannot be used: give a string of {least} to {_MAX_TEXT} printable characters."
        )


def _is_plain(value: str) -> bool:
    return value.isprintable() and not any("\ud800" <= char <= "\udfff" for char in value)


def _check_seconds(what: str, value: object, *, positive: bool = False) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or value < 0 or (positive and value == 0):  # type: ignore[operator]
        least = "more than 0" if positive else "0 or more"
        raise InvalidInput(f"The value {value!r} of {what} cannot be used: give a number of seconds, {least}.")
