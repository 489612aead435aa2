"""What is written into tokens, and what must be true of it (RFC 7519, 8725, 9068)."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeGuard

from base04_builtin.jwt.settings import JWTSettings
from base04_builtin.jwt.strict_json import faults_of, is_plain
from base04_hookspecs.errors import ExpiredToken, Fault, ImmatureToken, InvalidInput, MalformedToken, MisusedToken

ACCESS: Final = "at+jwt"
REFRESH: Final = "rt+jwt"

FAMILY: Final = "fam"
"""The claim that names the refresh family that a token belongs to."""

SOURCE: Final = "src"
"""The claim that names what a token came from, such as ``api_key:<id>``."""

AFTER: Final = "rev"
"""The claim that says after which revocations of its user and source a token was issued, whatever clocks say."""

RESERVED: Final = frozenset({"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "user_id", FAMILY, SOURCE, AFTER})
"""Claims that nobody but the issuer sets."""

_MAX_USER_ID: Final = 255
_BACKWARD_STEP: Final = 60.0


class IssueClock:
    """Seconds since the epoch to a microsecond, each ``tick`` later than the one before.

    That tells a token that was issued just after a user's tokens were revoked from one issued just before.
    """

    def __init__(self, source: Callable[[], float] = time.time) -> None:
        self._source = source
        self._last = 0.0

    def tick(self) -> float:
        """Return a time that has not been returned before."""
        self._last = round(self.now() + 1e-6, 6)
        return self._last

    def now(self) -> float:
        """Return the time, not before the last tick, unless the clock was set back by more than a minute."""
        current = self._source()
        if self._last - current > _BACKWARD_STEP:
            self._last = 0.0
        return max(current, self._last)


class Claims:
    """Builds payloads by the settings, and checks payloads against them."""

    def __init__(self, settings: JWTSettings, clock: IssueClock) -> None:
        self._settings = settings
        self._clock = clock

    def lifetime(self, kind: str) -> int:
        """Return how many seconds a token of a kind may live."""
        return self._settings.access_ttl if kind == ACCESS else self._settings.refresh_ttl

    def build(
        self, kind: str, user_id: str, jti: str, issued_at: float, ends_at: float | None = None, **further: Any
    ) -> dict[str, Any]:
        """Return the registered claims, and the further ones that are not None; ``ends_at`` may cut the life short."""
        expires_at = self.expiry(kind, issued_at)
        claims = {
            "iss": self._settings.issuer,
            "sub": user_id,
            "aud": self._settings.audience,
            "iat": issued_at,
            "exp": expires_at if ends_at is None else min(expires_at, math.ceil(ends_at)),
            "jti": jti,
        }
        if self._settings.client_id is not None:
            claims["client_id"] = self._settings.client_id
        for name, value in further.items():
            if value is not None:
                claims[name] = value
        return claims

    def expiry(self, kind: str, issued_at: float) -> int:
        """Return when a token ends that was issued at a time."""
        return math.ceil(issued_at) + self.lifetime(kind)

    def check(self, payload: Mapping[str, Any], kind: str) -> tuple[float, float]:
        """Check the registered claims of a payload whose signature is valid; return from when to when it is.

        Raises:
            InvalidToken: one is missing, malformed, or not true now.
        """
        self._check_names(payload)
        if kind == REFRESH and not isinstance(payload.get(FAMILY), str):
            raise MalformedToken("the refresh token belongs to no family")
        return self._check_times(payload, kind)

    def check_window(self, begins: float, ends: float) -> None:
        """Refuse what is not valid yet, or no more."""
        now = self._clock.now()
        if ends <= now:
            raise ExpiredToken("it has expired")
        if begins > now:
            raise ImmatureToken("it is not valid yet")

    def _check_names(self, payload: Mapping[str, Any]) -> None:
        if payload.get("iss") != self._settings.issuer:
            raise MisusedToken("the issuer is another")
        audience = payload.get("aud")
        if self._settings.audience not in (audience if isinstance(audience, list) else [audience]):
            raise MisusedToken("the audience is another")
        for name in ("sub", "jti"):
            if not isinstance(payload.get(name), str) or not payload[name]:
                raise MalformedToken(f"the claim {name} is missing or not a string")
        for name in (FAMILY, SOURCE, "client_id"):
            if name in payload and (not isinstance(payload[name], str) or not payload[name]):
                raise MalformedToken(f"the claim {name} is not a string")

    def _check_times(self, payload: Mapping[str, Any], kind: str) -> tuple[float, float]:
        leeway = self._settings.leeway
        issued_at, expires_at = _moment(payload, "iat"), _moment(payload, "exp")
        begins, ends = issued_at - leeway, min(expires_at, self.expiry(kind, issued_at)) + leeway
        if begins > self._clock.now():
            raise ImmatureToken("it was issued in the future")
        if "nbf" in payload:
            begins = max(begins, _moment(payload, "nbf") - leeway)
        self.check_window(begins, ends)
        return begins, ends


def check_user_id(user_id: str) -> None:
    """Refuse a user id that no token can carry.

    Raises:
        InvalidInput: it is empty, too long, or not text.
    """
    if not isinstance(user_id, str) or not 0 < len(user_id) <= _MAX_USER_ID or not _is_text(user_id):
        raise InvalidInput(f"The user id {user_id!r} cannot be used: give a string of 1 to {_MAX_USER_ID} characters.")


def check_additional(claims: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a copy of claims that may stand beside the registered ones.

    Raises:
        InvalidInput: one of them is reserved, or not JSON; all faults are listed.
    """
    if claims is None:
        return {}
    if type(claims) is not dict and not isinstance(claims, Mapping):  # the first is quick to tell
        raise InvalidInput(f"The additional claims must be a mapping, not {type(claims).__name__}.")
    copy = dict(claims)
    if RESERVED.isdisjoint(copy) and "client_id" not in copy and is_plain(copy):
        return copy
    faults = [Fault(f"/{name}", "is reserved for the issuer") for name in copy if name in RESERVED]
    faults.extend(faults_of(copy))
    if "client_id" in copy and (not isinstance(copy["client_id"], str) or not copy["client_id"]):
        faults.append(Fault("/client_id", "is not a text"))
    if faults:
        listed = "; ".join(f"{fault.pointer} {fault.message}" for fault in faults)
        raise InvalidInput(f"The additional claims cannot be used: {listed}.", faults)
    return copy


def check_end(ends_at: object) -> float | None:
    """Return until when claims hold, as their source says it, None for no end.

    Raises:
        InvalidInput: it is not a time.
    """
    if ends_at is None or is_time(ends_at):
        return ends_at
    raise InvalidInput(f"The claims end at {ends_at!r}, which is no time: give seconds since the epoch.")


def is_time(value: object) -> TypeGuard[float]:
    """Tell whether a value is a time in seconds that can be compared with others."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e15 < value < 1e15


def _moment(payload: Mapping[str, Any], name: str) -> float:
    value = payload.get(name)
    if not is_time(value):
        raise MalformedToken(f"the claim {name} is missing or not a time")
    return value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in value
