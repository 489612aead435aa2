"""The header fields ``RateLimit`` and ``RateLimit-Policy`` of draft-ietf-httpapi-ratelimit-headers-11.

Names are Strings, numbers are integers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import ceil
from typing import Any, Final

from base04_hookspecs.errors import RateLimited

_LARGEST: Final = 999_999_999_999_999
"""The largest integer of a structured field (RFC 9651, section 3.3.1)."""

Header = tuple[bytes, bytes]


def limit_headers(states: Sequence[Mapping[str, Any]]) -> list[Header]:
    """Say which limits apply and how they stand; ``t`` is when all of a limit is there again."""
    limits: list[str | int] = []
    standing: list[int] = []
    for state in states:
        limits += (state["limit_type"], state["limit"], state["window"])
        standing += (state["remaining"], ceil(state["reset_after"]))
    _, policy, form = _policies(*limits)
    return [policy, (b"ratelimit", form % (*standing,))]


def refusal_headers(error: RateLimited) -> dict[str, str]:
    """Say which limits refused. ``t`` is when some of it is there again, and never after ``Retry-After``."""
    wait = max(1, ceil(error.retry_after))
    headers = {"retry-after": str(min(wait, _LARGEST))}
    states = [state for state in error.limits if state["window"]]
    if not states:
        return headers
    names, policy, _ = _policies_of(states)
    refused = [
        f"{name};r=0;t={min(wait, max(1, ceil(state['reset_after'])))}"
        for name, state in zip(names, states, strict=True)
        if state["limit_type"] in error.exceeded and state["remaining"] == 0
    ]
    headers["ratelimit-policy"] = policy[1].decode()
    if refused:
        headers["ratelimit"] = ", ".join(refused)
    return headers


def violated(error: RateLimited) -> list[str]:
    """Return the names of the policies that refused, as the headers name them."""
    states = [state for state in error.limits if state["window"]]
    names, _, _ = _policies_of(states)
    return [
        name[1:-1]
        for name, state in zip(names, states, strict=True)
        if state["limit_type"] in error.exceeded and state["remaining"] == 0
    ]


def _policies_of(states: Sequence[Mapping[str, Any]]) -> tuple[tuple[str, ...], Header, bytes]:
    limits: list[str | int] = []
    for state in states:
        limits += (state["limit_type"], state["limit"], state["window"])
    return _policies(*limits)


@lru_cache(maxsize=1024)
def _policies(*flat: Any) -> tuple[tuple[str, ...], Header, bytes]:
    """Return the names of limits, as Strings, the header ``RateLimit-Policy``, and a form for ``RateLimit``.

    Each limit is given by its type, amount and window, one after the other. It is named after its type, and its amount
    and window too where the type has several.
    """
    limits = tuple(zip(flat[::3], flat[1::3], flat[2::3], strict=True))
    several = Counter(kind for kind, _, _ in limits)
    names = tuple(
        f'"{kind}"' if several[kind] == 1 else f'"{kind}-{amount}-{window}"' for kind, amount, window in limits
    )
    parts = (f"{name};q={amount};w={window}" for name, (_, amount, window) in zip(names, limits, strict=True))
    policy = (b"ratelimit-policy", ", ".join(parts).encode())
    return names, policy, ", ".join(f"{name};r=%d;t=%d" for name in names).encode()
