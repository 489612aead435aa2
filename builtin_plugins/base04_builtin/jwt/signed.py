"""The provider ``signed`` of the role ``jwt``."""

from __future__ import annotations

import asyncio
import base64
import binascii
import re
import secrets
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import structlog

from base04_builtin.jwt.claims import (
    ACCESS,
    FAMILY,
    REFRESH,
    SOURCE,
    Claims,
    IssueClock,
    check_additional,
    check_user_id,
)
from base04_builtin.jwt.families import Family, RefreshFamilies, new_id
from base04_builtin.jwt.revocations import Revocation, RevocationList
from base04_builtin.jwt.settings import JWTSettings
from base04_builtin.jwt.tables import MIGRATIONS
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import Base04Error, ConfigurationError, InvalidInput, InvalidToken, ManagerUnavailable
from base04_hookspecs.health import HealthReport, health_report
from base04_hookspecs.jwt import ClaimsSource, JWTManager, TokenPair
from base04_hookspecs.redis import RedisManager
from base04_hookspecs.vault import VaultManager

if TYPE_CHECKING:
    from base04_builtin.jwt.codec import TokenCodec

log = structlog.get_logger()

VAULT_PATH: Final = "base04/jwt"
VAULT_KEY: Final = "hs256"

_KEY_BYTES: Final = 32
_SOURCE: Final = re.compile(r"([a-z][a-z0-9_-]*):([^\s\x00]{1,200})\Z")
_AFTER_START: Final = 1.0


class SignedJWTManager(JWTManager):
    """Tokens signed with HS256 by a key that the vault keeps.

    The signing library is loaded in the background a second after the start, or when the first token comes.
    """

    def __init__(
        self,
        settings: JWTSettings,
        database: DatabaseManager,
        redis: RedisManager,
        vault: VaultManager,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._database = database
        self._vault = vault
        self._clock = IssueClock(clock)
        self._claims = Claims(settings, self._clock)
        self._revocations = RevocationList(database, redis, self._clock, settings.revocation_max_age)
        self._families = RefreshFamilies(settings, database, self._revocations, self._clock)
        self._sources: dict[str, ClaimsSource] = {}
        self._secret = b""
        self._codec: TokenCodec | None = None
        self._loading = asyncio.Lock()
        self._upkeep: asyncio.Task[None] | None = None
        self._errors = 0

    def __repr__(self) -> str:
        return f"<SignedJWTManager issuer={self._settings.issuer!r} audience={self._settings.audience!r}>"

    async def start(self) -> None:
        """Get the signing key, the tables and the revocations."""
        await self._database.migrate("jwt", MIGRATIONS)
        self._secret = await self._signing_key()
        await self._revocations.start()
        self._upkeep = asyncio.create_task(self._keep_up(), name="jwt-upkeep")

    async def stop(self) -> None:
        """End the background work."""
        task, self._upkeep = self._upkeep, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        await self._revocations.stop()

    async def health_check(self) -> HealthReport:
        """Ask the database, without which no token can be trusted."""
        began = time.perf_counter()
        reachable = await self._database.check_connection()
        return health_report(
            "healthy" if reachable else "unhealthy",
            "tokens can be checked" if reachable else "revocations cannot be read: the database does not answer",
            errors=self._errors,
            response_time=time.perf_counter() - began,
            dependencies={"database": "healthy" if reachable else "unhealthy"},
            revocations=len(self._revocations),
        )

    async def create_access_token(self, user_id: str, additional_claims: Mapping[str, Any] | None = None) -> str:
        """Create an access token."""
        check_user_id(user_id)
        further = check_additional(additional_claims)
        payload = self._claims.build(ACCESS, user_id, new_id(), self._clock.tick())
        return (await self._ready_codec()).encode(ACCESS, {**further, **payload})

    async def create_refresh_token(self, user_id: str, *, source: str | None = None) -> str:
        """Create a refresh token, the first of a new family."""
        check_user_id(user_id)
        if source is not None:
            self._source_function(source, InvalidInput)
        codec = await self._ready_codec()
        return self._refresh_token_of(codec, await self._families.create(user_id, source))

    async def register_claims_source(self, name: str, source: ClaimsSource) -> None:
        """Make a source of claims known; one of the same name is replaced."""
        if _SOURCE.match(f"{name}:x") is None:
            raise InvalidInput(f"The name {name!r} of a claims source cannot be used: write lower-case letters.")
        self._sources[name] = source

    async def validate_token(self, token: str) -> dict[str, Any]:
        """Return the payload of an access token that is valid now."""
        payload = await self._accepted(token, ACCESS)
        return {**payload, "user_id": payload["sub"]}

    async def refresh_token(self, refresh_token: str) -> TokenPair:
        """Give a new pair for a refresh token, and the same pair again within the retry window."""
        payload = await self._accepted(refresh_token, REFRESH)
        held = await self._families.holding(payload[FAMILY], payload["jti"])
        claims = await self._claims_now(held)
        codec = await self._ready_codec()
        family = await self._families.rotate(held.family, payload["jti"])
        access = self._access_payload_of(family)
        return {
            "access_token": codec.encode(ACCESS, {**claims, **access}),
            "refresh_token": self._refresh_token_of(codec, family),
            "token_type": "Bearer",
            "expires_in": min(self._settings.access_ttl, max(0, int(access["exp"] - self._clock.now()))),
        }

    async def blacklist_token(self, token: str) -> bool:
        """Revoke a token, with its family if it is a refresh token."""
        try:
            kind, payload = await self._either(token)
            self._claims.check(payload, kind)
        except InvalidToken:
            return False
        if await self._revocations.reason_against(payload) is not None:
            return False
        if kind == REFRESH:
            await self._families.revoke(payload[FAMILY])
        else:
            expires_at = self._claims.expiry(ACCESS, payload["iat"]) + self._settings.leeway
            await self._revocations.add(Revocation("jti", payload["jti"], expires_at))
        return True

    async def is_token_blacklisted(self, token: str) -> bool:
        """Tell whether a token is revoked; a text that is no token of this issuer is not."""
        try:
            kind, payload = await self._either(token)
            self._claims.check(payload, kind)
        except InvalidToken:
            return False
        return await self._revocations.reason_against(payload) is not None

    async def revoke_user_tokens(self, user_id: str) -> bool:
        """Revoke all tokens of a user that were issued until now."""
        check_user_id(user_id)
        await self._families.revoke_issued("user", user_id, "user_id")
        return True

    async def revoke_source_tokens(self, source: str) -> bool:
        """Revoke all tokens that came from a source and were issued until now."""
        if not isinstance(source, str) or _SOURCE.match(source) is None:
            raise InvalidInput(f"The source {source!r} cannot be used: write 'name:reference', as in 'api_key:abc'.")
        await self._families.revoke_issued("source", source, "source")
        return True

    async def get_jwks(self) -> dict[str, Any]:
        """Return an empty set: the key is symmetric and stays here."""
        return {"keys": []}

    async def sweep(self) -> int:
        """Remove stored entries that matter no more, and return how many. Runs by itself every ``sweep_interval``."""
        return await self._revocations.sweep() + await self._families.sweep()

    async def _accepted(self, token: str, kind: str) -> dict[str, Any]:
        codec = self._codec or await self._ready_codec()
        payload = codec.decode(token, kind)
        self._claims.check(payload, kind)
        reason = await self._reason_against(payload)
        if reason is not None:
            raise InvalidToken(f"it is revoked by its {reason}")
        return payload

    async def _reason_against(self, payload: Mapping[str, Any]) -> str | None:
        try:
            return await self._revocations.reason_against(payload)
        except Base04Error as error:
            self._errors += 1
            raise ManagerUnavailable("Whether the token is revoked cannot be known just now: try again.") from error

    async def _either(self, token: str) -> tuple[str, dict[str, Any]]:
        codec = await self._ready_codec()
        try:
            return ACCESS, codec.decode(token, ACCESS)
        except InvalidToken:
            return REFRESH, codec.decode(token, REFRESH)

    async def _claims_now(self, family: Family) -> dict[str, Any]:
        if family.source is None:
            return {}
        function, reference = self._source_function(family.source, InvalidToken)
        return check_additional(await function(family.user_id, reference))

    def _source_function(
        self, source: str, refusal: type[InvalidInput] | type[InvalidToken]
    ) -> tuple[ClaimsSource, str]:
        form = _SOURCE.match(source)
        if form is None:
            raise refusal(f"The source {source!r} cannot be used: write 'name:reference', as in 'api_key:abc'.")
        if form[1] not in self._sources:
            known = ", ".join(sorted(self._sources)) or "none"
            raise refusal(f"There is no claims source {form[1]!r}; registered are: {known}.")
        return self._sources[form[1]], form[2]

    def _access_payload_of(self, family: Family) -> dict[str, Any]:
        further = {FAMILY: family.family, SOURCE: family.source}
        jti = f"{family.current_jti}.access"  # follows from the rotation, so that a retry is answered alike
        return self._claims.build(ACCESS, family.user_id, jti, family.rotated_at, **further)

    def _refresh_token_of(self, codec: TokenCodec, family: Family) -> str:
        further = {FAMILY: family.family, SOURCE: family.source}
        payload = self._claims.build(REFRESH, family.user_id, family.current_jti, family.rotated_at, **further)
        return codec.encode(REFRESH, payload)

    async def _signing_key(self) -> bytes:
        fresh = base64.urlsafe_b64encode(secrets.token_bytes(_KEY_BYTES)).rstrip(b"=").decode()
        kept = await self._vault.create_secret_value(VAULT_PATH, VAULT_KEY, fresh)
        try:
            secret = base64.b64decode(kept + "=" * (-len(kept) % 4), b"-_", validate=True)
        except (binascii.Error, ValueError):
            secret = b""  # no chaining: the error's traceback would hold the key
        if len(secret) < _KEY_BYTES:
            raise ConfigurationError(
                f"The signing key at {VAULT_PATH!r}, {VAULT_KEY!r} of the vault cannot be used: expected at least "
                f"{_KEY_BYTES} bytes as base64url. Correct it, or delete it to have a new one made, which ends all "
                "tokens."
            )
        return secret

    async def _ready_codec(self) -> TokenCodec:
        async with self._loading:
            if self._codec is None:
                if not self._secret:
                    raise ManagerUnavailable("The JWT manager has not started: start it first.")
                self._codec = await asyncio.to_thread(_codec_for, self._secret)
            return self._codec

    async def _keep_up(self) -> None:
        await asyncio.sleep(_AFTER_START)  # leaves the processor to the rest of the start
        await self._ready_codec()
        while True:
            try:
                await self.sweep()
            except ManagerUnavailable as error:
                log.warning("expired token records not swept", error=str(error))
            except Exception:
                self._errors += 1
                log.exception("sweep of expired token records failed")
            await asyncio.sleep(self._settings.sweep_interval)


def _codec_for(secret: bytes) -> TokenCodec:
    from base04_builtin.jwt.codec import TokenCodec  # imports joserfc, which takes 0.1 s

    return TokenCodec(secret)
