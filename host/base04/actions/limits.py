"""Which limits a call meets, and counting it.

A call is counted once at each level. Over HTTP the address is counted first, before anybody is authenticated, then
the user, the API key and the action in a second step; what comes in otherwise is counted in one.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Final

from base04_hookspecs.context import ANONYMOUS, Principal
from base04_hookspecs.errors import InvalidInput, InvalidToken, RateLimited
from base04_hookspecs.manager import Manager
from base04_hookspecs.rate_limiter import LimitState, OnUnavailable, RateLimit, RateLimiterManager

ADDRESS: Final = ("ip",)
CALLER: Final = ("user", "api_key")
ALL: Final = (*ADDRESS, *CALLER)

_OWN_LIMIT: Final = "rate_limit"

FindManager = Callable[[str], Manager | None]
NoteRefusal = Callable[[Sequence[str]], None]
"""Notes the levels whose limits refused a call."""


class RouteChoices:
    """What becomes of calls that cannot be counted, by path; the first pattern that fits decides."""

    def __init__(self, choices: OnUnavailable | Mapping[str, OnUnavailable] | None = None) -> None:
        self._choices = {"*": choices} if isinstance(choices, str) else dict(choices or {})
        self._found = lru_cache(maxsize=1024)(self._find)

    def __bool__(self) -> bool:
        return bool(self._choices)

    def of(self, path: str) -> OnUnavailable | None:
        """Return the choice for a path, None to leave it to the rate limiter."""
        return self._found(path)

    def _find(self, path: str) -> OnUnavailable | None:
        return next((choice for pattern, choice in self._choices.items() if fnmatchcase(path, pattern)), None)


class Limits:
    """Counts calls with the rate limiter of one generation; where there is none, nothing is limited.

    ``refused`` notes each call that is refused.
    """

    def __init__(
        self, find: FindManager, choices: RouteChoices | None = None, refused: NoteRefusal | None = None
    ) -> None:
        self._find = find
        self._choices = choices if choices else None
        self._refused = refused

    async def count(
        self,
        types: Sequence[str],
        principal: Principal,
        client_ip: str | None,
        path: str | None,
        action: str | None = None,
        limits: Sequence[RateLimit] = (),
        cost: int = 1,
    ) -> Sequence[LimitState]:
        """Count a call at some levels, and at that of an action with limits of its own; return how they stand.

        ``path`` is what it asked for, None where that is the action.

        Raises:
            RateLimited: one of them refuses, and nothing was counted.
            ManagerUnavailable: it cannot be counted, and is not to pass then.
        """
        limiter: RateLimiterManager | None = self._find("rate_limiter")  # type: ignore[assignment]  # of that role
        if limiter is None:
            return ()
        identifiers: dict[str, str] = {}
        if client_ip and "ip" in types:
            identifiers["ip"] = client_ip
        if principal.user_id and "user" in types:
            identifiers["user"] = principal.user_id
        if principal.api_key_id and "api_key" in types:
            identifiers["api_key"] = principal.api_key_id
        replaced = _own_limits_of(principal, identifiers) if _OWN_LIMIT in principal.claims else None
        if limits:
            identifiers["action"] = f"{action}:{caller_of(principal, client_ip)}"
            replaced = {"action": limits} if replaced is None else {**replaced, "action": limits}
        if not identifiers:
            return ()
        choice = self._choices.of(path or f"/actions/{action}") if self._choices is not None else None
        if choice is None:
            result = await limiter.check_rate_limit(
                tuple(identifiers), identifiers=identifiers, limits=replaced, cost=cost
            )
        else:
            further: dict[str, Any] = {"on_unavailable": choice}
            result = await limiter.check_rate_limit(
                tuple(identifiers), identifiers=identifiers, limits=replaced, cost=cost, **further
            )
        if result["allowed"]:
            return result["limits"]
        exceeded = list(dict.fromkeys([*result["exceeded_types"], *result["banned"]]))
        if self._refused is not None and cost == 1:  # what is charged has been refused for another reason
            self._refused(exceeded)
        raise RateLimited(
            f"Too many calls: {'this' if action is None else repr(action)} can be called again in "
            f"{result['retry_after']:.1f} s.",
            retry_after=result["retry_after"],
            exceeded=exceeded,
            banned=result["banned"],
            limits=result["limits"],
        )

    async def charge(self, client_ip: str | None, path: str, cost: int) -> None:
        """Count a violation against the address; whether it still may go on is seen at its next call."""
        if cost > 0 and client_ip:
            try:
                await self.count(ADDRESS, ANONYMOUS, client_ip, path, cost=cost)
            except RateLimited:
                return


def _own_limits_of(principal: Principal, identifiers: Mapping[str, str]) -> dict[str, Sequence[RateLimit]] | None:
    """Return the limits that a key or a token brings in place of those there are."""
    own = principal.claims.get(_OWN_LIMIT)
    level = "api_key" if principal.api_key_id else "user"
    return {level: own_limits(own)} if own is not None and level in identifiers else None


@lru_cache(maxsize=1024)
def own_limits(text: object) -> tuple[RateLimit, ...]:
    """Return the limits that the claim ``rate_limit`` of a token, or an API key, brings.

    Raises:
        InvalidToken: they cannot be read.
    """
    try:
        if isinstance(text, str):
            return (RateLimit.parse(text),)
    except InvalidInput as error:
        raise InvalidToken(f"its claim rate_limit cannot be read: {error}") from error
    raise InvalidToken("its claim rate_limit is not a text")


def check_own_limits(principal: Principal) -> None:
    """Refuse a principal whose own limit cannot be read, rather than not to limit it.

    Raises:
        InvalidToken: it cannot be read.
    """
    own = principal.claims.get(_OWN_LIMIT) if principal.claims else None
    if own is not None and not isinstance(own, str):  # a list cannot be looked up
        raise InvalidToken("its claim rate_limit is not a text")
    if own is not None:
        own_limits(own)


def caller_of(principal: Principal, client_ip: str | None) -> str:
    """Return who an action's own limit counts; IPv6 addresses by /64, as all limits do."""
    return principal.user_id or principal.api_key_id or network_of(client_ip) or "anonymous"


@lru_cache(maxsize=4096)
def network_of(address: str | None) -> str | None:
    """Return what an address counts as: the /64 of an IPv6 one, else itself."""
    if address is None or ":" not in address:
        return address
    try:
        return str(ipaddress.ip_network(f"{address.partition('%')[0]}/64", strict=False))
    except ValueError:
        return address
