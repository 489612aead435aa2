"""The role ``rate_limiter``: how often somebody may do something."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Final, Literal, NotRequired, TypedDict

from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import hookspec
from base04_hookspecs.provider import Provider

OnUnavailable = Literal["open", "closed", "local"]
"""What becomes of calls that cannot be counted: they pass, they are refused, or this process counts them alone."""

_LIMIT: Final = re.compile(r"\s*(\d{1,9})\s*/\s*(?:(\d{1,6})\s*)?(second|minute|hour|day)s?\s*\Z")
_SECONDS: Final = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


@dataclass(frozen=True, slots=True)
class RateLimit:
    """At most ``amount`` calls in ``period_s`` seconds."""

    amount: int
    period_s: int

    @classmethod
    def parse(cls, text: str) -> RateLimit:
        """Read ``20/minute``, ``5/10 seconds``, ``2000/day``.

        Raises:
            InvalidInput: it is written otherwise, or is zero.
        """
        match = _LIMIT.match(text)
        if match is None or int(match[1]) == 0 or (match[2] is not None and int(match[2]) == 0):
            raise InvalidInput(
                f"The rate limit {text!r} cannot be read: write for example '20/minute' or '5/10 seconds'."
            )
        return cls(int(match[1]), int(match[2] or 1) * _SECONDS[match[3]])


class LimitState(TypedDict):
    """One limit as it stands: ``limit`` calls in ``window`` seconds, ``remaining`` now, all back in ``reset_after``."""

    limit_type: str
    identifier: str
    limit: int
    window: int
    remaining: int
    reset_after: float


class RateLimitResult(TypedDict):
    """Whether a call may go on. ``exceeded_types`` names the limit types that refuse it, ``banned`` the banned ones.

    ``retry_after`` is the number of seconds until a call like this could go on, 0 if it may now. ``shadow_exceeded``,
    where it is there, names the types that would have refused it were they not in shadow mode.
    """

    allowed: bool
    exceeded_types: list[str]
    banned: list[str]
    retry_after: float
    limits: list[LimitState]
    shadow_exceeded: NotRequired[list[str]]


class RateLimitInfo(TypedDict):
    """The tightest limit of one identifier, without consuming anything."""

    identifier: str
    limit_type: str
    limit: int
    window: int
    remaining: int
    reset_after: float
    banned: bool
    ban_reason: str | None
    ban_expires_at: float | None


class RateLimiterManager(Manager):
    """Limits by address (``ip``), ``user``, ``api_key`` and ``action``.

    Capabilities: ``atomic_levels`` (all levels are checked, then all consumed, in one step), ``burst`` (calls may
    come at once up to the limit), ``exact`` (no window of the period's length ever holds more than burst allows),
    ``bans``, ``durable_bans`` (they outlive every process, and what the counts are kept in), ``auto_ban`` (who is
    refused too often is banned, where settings say so), ``shared`` (one count and one set of bans for all processes; a
    provider that counts on the role ``redis`` shares what that shares, and does not declare it).
    """

    role: ClassVar[str] = "rate_limiter"

    @abstractmethod
    async def check_rate_limit(
        self,
        limit_types: Sequence[str],
        *,
        identifiers: Mapping[str, str] | None = None,
        limits: Mapping[str, Sequence[RateLimit]] | None = None,
        cost: int = 1,
        on_unavailable: OnUnavailable | None = None,
    ) -> RateLimitResult:
        """Check the limits of all types and, if all allow it, consume ``cost`` from each.

        ``identifiers`` maps limit types to who is counted; what it lacks comes from the current request, and a type
        that has no identifier is skipped. ``limits`` replaces the configured ones for a type; a type that has none is
        not limited. IPv6 addresses count by /64. ``on_unavailable`` takes the place of what settings say of calls that
        cannot be counted; a provider whose count is always at hand has no use for it.

        Raises:
            InvalidInput: a limit type is unknown, or ``cost`` is below 1.
            ManagerUnavailable: the count cannot be kept, and is to fail closed.
        """

    @abstractmethod
    async def get_rate_limit_info(self, identifier: str, limit_type: str) -> RateLimitInfo:
        """Return how an identifier stands, without consuming anything."""

    @abstractmethod
    async def reset_rate_limit(self, identifier: str, limit_type: str) -> bool:
        """Forget what an identifier has consumed; False where nothing was counted."""

    @abstractmethod
    async def ban_identifier(
        self, identifier: str, duration: float | None = None, *, limit_type: str | None = None, reason: str = ""
    ) -> bool:
        """Refuse everything from an identifier for ``duration`` seconds, or without end.

        ``limit_type`` says what the identifier is; without it an address is an ``ip``, anything else counts as every
        other type.
        """

    @abstractmethod
    async def unban_identifier(self, identifier: str) -> bool:
        """Lift the bans of an identifier; False where there were none."""


@hookspec
def rate_limiter_providers() -> Iterable[Provider]:
    """Offer providers of the role ``rate_limiter``.

    The host calls each implementation once, when it discovers plugins. None or an empty iterable offers nothing.
    """
