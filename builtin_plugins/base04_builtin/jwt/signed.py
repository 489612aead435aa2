"""The provider ``signed`` of the role ``jwt``."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import structlog

from base04_builtin.jwt.claims import (
    ACCESS,
    AFTER,
    FAMILY,
    REFRESH,
    SOURCE,
    Claims,
    IssueClock,
    check_additional,
    check_end,
    check_user_id,
)
from base04_builtin.jwt.codec import TokenCodec, UnknownKey
from base04_builtin.jwt.families import Family, RefreshFamilies, new_id
from base04_builtin.jwt.key_ring import KeyRing
from base04_builtin.jwt.live_revocations import Revocation
from base04_builtin.jwt.revocations import RevocationList
from base04_builtin.jwt.settings import JWTSettings
from base04_builtin.jwt.tables import MIGRATIONS
from base04_builtin.jwt.verified import Verified, VerifiedTokens
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import Base04Error, InvalidInput, InvalidToken, ManagerUnavailable, RevokedToken
from base04_hookspecs.health import HealthReport, HealthStatus, health_report
from base04_hookspecs.hooks import HooksManager
from base04_hookspecs.jwt import ClaimsSource, JWTManager, TokenPair
from base04_hookspecs.manager import Manager
from base04_hookspecs.redis import RedisManager
from base04_hookspecs.vault import VaultManager

log = structlog.get_logger()

REFRESH_REUSED: Final = "jwt.refresh_reused"
"""The hook that is triggered with ``family`` and ``user_id`` when a used refresh token came again."""

_SOURCE: Final = re.compile(r"([a-z][a-z0-9_-]*):([^\s\x00]{1,200})\Z")
_AFTER_START: Final = 1.0


class SignedJWTManager(JWTManager):
    """Tokens signed with keys that the vault keeps, HS256 unless the settings want a key pair."""

    def __init__(
        self,
        settings: JWTSettings,
        database: DatabaseManager,
        redis: RedisManager,
        vault: VaultManager,
        hooks: HooksManager | None = None,
        *,
        clock: Callable[[], float] | None = None,
        steady: Callable[[], float] | None = None,
    ) -> None:
        clock, steady = clock or time.time, steady or time.monotonic
        self._settings = settings
        self._database = database
        self._hooks = hooks
        self._clock = IssueClock(clock)
        self._claims = Claims(settings, self._clock)
        self._verified = VerifiedTokens(settings.cache_size)
        self._keys = KeyRing(settings, vault, self._clock, self._on_new_keys, steady)
        self._revocations = RevocationList(
            settings,
            database,
            redis,
            self._clock,
            steady=steady,
            key_version=lambda: self._keys.version,
            newer_keys=self._take_newer_keys,
        )
        self._families = RefreshFamilies(settings, database, self._revocations, self._clock, self._on_reuse)
        self._steady = steady
        self._sources: dict[str, ClaimsSource] = {}
        self._upkeep: asyncio.Task[None] | None = None
        self._reloading: asyncio.Task[None] | None = None
        self._errors = 0

    def __repr__(self) -> str:
        return f"<SignedJWTManager issuer={self._settings.issuer!r} audience={self._settings.audience!r}>"

    async def start(self) -> None:
        """Get the keys, the tables and the revocations."""
        await self._database.migrate("jwt", MIGRATIONS)
        await self._keys.start()
        await self._revocations.start()
        self._upkeep = asyncio.create_task(self._keep_up(), name="jwt-upkeep")

    async def stop(self) -> None:
        """End the background work."""
        tasks = [task for task in (self._upkeep, self._reloading) if task is not None]
        self._upkeep = self._reloading = None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._revocations.stop()

    async def health_check(self) -> HealthReport:
        """Ask the database, where revocations and families have their truth, and say whether news come through."""
        began = time.perf_counter()
        reachable, fed = await self._database.check_connection(), self._revocations.is_fed
        status: HealthStatus = "healthy" if reachable and fed and not self._keys.fault else "degraded"
        return health_report(
            status if reachable or fed else "unhealthy",
            self._condition(reachable, fed),
            errors=self._errors,
            response_time=time.perf_counter() - began,
            dependencies={
                "database": "healthy" if reachable else "unhealthy",
                "redis": "healthy" if fed else "unhealthy",
            },
            revocations=len(self._revocations),
            verified_tokens=len(self._verified),
            accepted_blindly=self._revocations.accepted_blindly,
            key_version=self._keys.version,
        )

    async def create_access_token(
        self, user_id: str, additional_claims: Mapping[str, Any] | None = None, *, source: str | None = None
    ) -> str:
        """Create an access token."""
        check_user_id(user_id)
        if source is not None:
            _check_source(source)
        further = check_additional(additional_claims)
        codec = self._keys.codec
        await self._ensure_read()
        payload = self._payload(ACCESS, user_id, new_id(), self._clock.tick(), source=source)
        return codec.encode(ACCESS, {**payload, **further})

    async def create_refresh_token(self, user_id: str, *, source: str | None = None) -> str:
        """Create a refresh token, the first of a new family."""
        check_user_id(user_id)
        if source is not None:
            self._source_function(source, InvalidInput)
        codec = self._keys.codec
        await self._ensure_read()
        return self._refresh_token_of(codec, await self._families.create(user_id, source))

    async def register_claims_source(self, name: str, source: ClaimsSource) -> None:
        """Make a source of claims known; one of the same name is replaced."""
        if _SOURCE.match(f"{name}:x") is None:
            raise InvalidInput(f"The name {name!r} of a claims source cannot be used: write lower-case letters.")
        self._sources[name] = source

    def claims_sources(self) -> Mapping[str, ClaimsSource]:
        """Return the sources that are known."""
        return MappingProxyType(self._sources)

    async def take_over(self, previous: Manager) -> None:
        """Go on with the claims sources of the instance before, but for those that were registered anew."""
        if isinstance(previous, JWTManager):
            self._sources = {**previous.claims_sources(), **self._sources}

    async def validate_token(self, token: str) -> dict[str, Any]:
        """Return the payload of an access token that is valid now."""
        verified = self._verified.get(token) if type(token) is str else None
        if verified is None:
            verified = await self._verify(token, ACCESS)
            self._verified.add(token, verified)
        else:
            self._claims.check_window(verified.begins, verified.ends)
        await self._check_revocations(verified)
        return verified.copy_of_payload()

    def is_still_valid(self, token: str) -> bool:
        """Look at what is remembered, as long as revocations are known without asking."""
        verified = self._verified.get(token)
        if verified is None or self._steady() > self._revocations.known_until:
            return False
        if not verified.begins <= self._clock.now() < verified.ends:
            return False
        return self._revocations.live.reason_against(verified.payload, verified.kid) is None

    async def refresh_token(self, refresh_token: str) -> TokenPair:
        """Give a new pair for a refresh token, and the same pair again within the retry window."""
        verified = await self._verify(refresh_token, REFRESH)
        await self._check_revocations(verified)
        family_id, jti = verified.payload[FAMILY], verified.payload["jti"]
        held = await self._families.holding(family_id, jti)
        claims, claims_end = await self._claims_now(held)
        codec = self._keys.codec
        family = await self._families.rotate(held.family, jti)
        access = self._access_payload_of(family, claims_end)
        return {
            "access_token": codec.encode(ACCESS, {**access, **claims}),
            "refresh_token": self._refresh_token_of(codec, family),
            "token_type": "Bearer",
            "expires_in": min(self._settings.access_ttl, max(0, int(access["exp"] - self._clock.now()))),
        }

    async def blacklist_token(self, token: str) -> bool:
        """Revoke a token, with its family if it is a refresh token."""
        try:
            kind, verified = await self._either(token)
        except InvalidToken:
            return False
        await self._ensure_known()
        if self._revocations.live.reason_against(verified.payload, verified.kid) is not None:
            return False
        if kind == REFRESH:
            await self._families.revoke(verified.payload[FAMILY])
        else:
            ends_at = verified.payload["exp"] + self._settings.leeway  # longer lives may be set again
            await self._revocations.add(Revocation("jti", verified.payload["jti"], ends_at))
        return True

    async def is_token_blacklisted(self, token: str) -> bool:
        """Tell whether a token is revoked; a text that is no token of this issuer is not."""
        try:
            _, verified = await self._either(token)
        except InvalidToken:
            return False
        await self._ensure_known()
        return self._revocations.live.reason_against(verified.payload, verified.kid) is not None

    def watch_revocations(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when something is revoked, as soon as this process knows of it."""
        return self._revocations.live.watch(callback)

    async def revoke_user_tokens(self, user_id: str) -> bool:
        """Revoke all tokens of a user that were issued until now."""
        check_user_id(user_id)
        await self._families.revoke_issued("user", user_id, "user_id")
        return True

    async def revoke_source_tokens(self, source: str) -> bool:
        """Revoke all tokens that came from a source and were issued until now."""
        _check_source(source)
        await self._families.revoke_issued("source", source, "source")
        return True

    async def rotate_keys(self, *, revoke: bool = False) -> str:
        """Make a new signing key and return its id."""
        key, before = await self._keys.rotate(at_once=revoke)
        if revoke:
            ends_at = self._clock.now() + self._settings.longest_life
            for old in before:
                await self._revocations.add(Revocation("key", old.kid, ends_at))
        return key.kid

    async def get_jwks(self) -> dict[str, Any]:
        """Return the public keys, those that will sign and those that have signed included."""
        return {"keys": self._keys.public_keys()}

    async def sweep(self) -> int:
        """Remove stored entries that matter no more, and return how many. Runs by itself every ``sweep_interval``."""
        return await self._revocations.sweep() + await self._families.sweep()

    async def _check_revocations(self, verified: Verified) -> None:
        await self._ensure_known()
        reason = self._revocations.live.reason_against(verified.payload, verified.kid)
        if reason is not None:
            raise RevokedToken(f"it is revoked by its {reason}")

    async def _ensure_known(self) -> None:
        if self._steady() > self._revocations.known_until:
            try:
                await self._revocations.ensure_known()
            except ManagerUnavailable:
                self._errors += 1
                raise

    async def _ensure_read(self) -> None:
        """Know what was revoked before the start: a new token says after which revocations it comes."""
        if self._revocations.known_until == float("-inf"):
            await self._ensure_known()

    async def _verify(self, token: str, kind: str) -> Verified:
        try:
            payload, kid, key_ends_at = self._keys.codec.decode(token, kind)
        except UnknownKey as error:
            if not await self._keys.look_for(error.kid):
                raise
            payload, kid, key_ends_at = self._keys.codec.decode(token, kind)
        begins, ends = self._claims.check(payload, kind)
        return Verified(payload, kid, begins, ends if key_ends_at is None else min(ends, key_ends_at))

    async def _either(self, token: str) -> tuple[str, Verified]:
        try:
            return ACCESS, await self._verify(token, ACCESS)
        except InvalidToken:
            return REFRESH, await self._verify(token, REFRESH)

    async def _claims_now(self, family: Family) -> tuple[dict[str, Any], float | None]:
        """Ask the source of a family for the claims of its user, and until when they hold."""
        if family.source is None:
            return {}, None
        function, reference = self._source_function(family.source, InvalidToken)
        claims = dict(await function(family.user_id, reference))
        ends_at = check_end(claims.pop("exp", None))
        return check_additional(claims), ends_at

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

    def _payload(
        self,
        kind: str,
        user_id: str,
        jti: str,
        issued_at: float,
        *,
        source: str | None,
        family: str | None = None,
        ends_at: float | None = None,
    ) -> dict[str, Any]:
        further = {FAMILY: family, SOURCE: source, AFTER: self._revocations.live.after(user_id, source)}
        return self._claims.build(kind, user_id, jti, issued_at, ends_at, **further)

    def _family_payload(self, kind: str, jti: str, family: Family, claims_end: float | None = None) -> dict[str, Any]:
        ends = [end for end in (self._families.ends_at(family), claims_end) if end is not None]
        ends_at = min(ends, default=None)
        return self._payload(
            kind, family.user_id, jti, family.rotated_at, source=family.source, family=family.family, ends_at=ends_at
        )

    def _access_payload_of(self, family: Family, claims_end: float | None) -> dict[str, Any]:
        # The jti follows from the rotation, so that a retry is answered alike.
        return self._family_payload(ACCESS, f"{family.current_jti}.access", family, claims_end)

    def _refresh_token_of(self, codec: TokenCodec, family: Family) -> str:
        return codec.encode(REFRESH, self._family_payload(REFRESH, family.current_jti, family))

    async def _on_reuse(self, family: Family) -> None:
        if self._hooks is None:
            return
        try:
            await self._hooks.trigger_hook(REFRESH_REUSED, family=family.family, user_id=family.user_id)
        except Base04Error as error:  # the family is revoked, whoever hears of it
            log.warning("reuse of a refresh token not announced", family=family.family, error=str(error))

    def _on_new_keys(self) -> None:
        self._verified.clear()

    def _take_newer_keys(self) -> None:
        if self._reloading is None or self._reloading.done():
            self._reloading = asyncio.create_task(self._keys.reload(), name="jwt-keys")

    def _condition(self, reachable: bool, fed: bool) -> str:
        if self._keys.fault:
            return f"newer signing keys cannot be taken up: {self._keys.fault}"
        if reachable and fed:
            return "tokens can be checked"
        if reachable:
            return "revocations are read from the database: no news come through redis"
        if fed:
            return "revocations come through redis; the database does not answer, so that nothing can be revoked"
        return "revocations cannot be known: neither redis nor the database answers"

    async def _keep_up(self) -> None:
        await asyncio.sleep(_AFTER_START)  # leaves the processor to the rest of the start
        while True:
            for step in (self.sweep, self._keys.tidy):
                await self._attempt(step)
            await asyncio.sleep(self._settings.sweep_interval)

    async def _attempt(self, step: Callable[[], Any]) -> None:
        try:
            await step()
        except ManagerUnavailable as error:
            log.warning("token upkeep put off", step=step.__name__, error=str(error))
        except Exception:
            self._errors += 1
            log.exception("token upkeep failed", step=step.__name__)


def _check_source(source: str) -> None:
    if not isinstance(source, str) or _SOURCE.match(source) is None:
        raise InvalidInput(f"The source {source!r} cannot be used: write 'name:reference', as in 'api_key:abc'.")
