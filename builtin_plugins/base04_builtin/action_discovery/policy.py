"""Reading how an action is run: ``idempotent``, ``mode``, ``priority``, ``retry``, ``concurrency``."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from base04_builtin.action_discovery.faults import nearest
from base04_builtin.action_discovery.fields import Place
from base04_hookspecs.run_policy import (
    MAX_ATTEMPTS,
    PRIORITIES,
    RETRY_CAUSES,
    ConcurrencyLimit,
    RetryPolicy,
    RunPolicy,
)
from base04_hookspecs.settings import parse_duration

POLICY_KEYS: Final = ("idempotent", "mode", "priority", "retry", "concurrency")

_MODES: Final = ("wait", "background")
_RETRY_KEYS: Final = ("attempts", "delay", "backoff", "max_delay", "when")
_CONCURRENCY_KEYS: Final = ("limit", "by", "wait")
_MOST: Final = 100_000


def read_policy(place: Place, parameters: Collection[str]) -> RunPolicy:
    """Return how an action is run; faults go to the log of its file. ``parameters`` are the names of its own."""
    idempotent = place.data.get("idempotent", False)
    if not isinstance(idempotent, bool):
        place.fault("idempotent", "'idempotent' must be true or false.")
    mode = place.data.get("mode", "wait")
    if mode not in _MODES:
        hint = nearest(mode, _MODES) if isinstance(mode, str) else "."
        place.fault("mode", f"The mode {mode!r} is not known{hint} Write 'wait' or 'background'.")
    return RunPolicy(
        idempotent=idempotent is True,
        background=mode == "background",
        priority=_whole(place, "priority", 0, *PRIORITIES),
        retry=_retry(place, idempotent=idempotent is True),
        concurrency=_concurrency(place, parameters),
    )


def _retry(place: Place, *, idempotent: bool) -> RetryPolicy | None:
    if "retry" not in place.data:
        return None
    if not idempotent:
        place.fault(
            "retry",
            "Only an action with 'idempotent: true' can be tried again: an attempt that failed may have done a part.",
        )
    value = place.data["retry"]
    inner = _inner(place, "retry", {"attempts": value} if _is_whole(value) else value, _RETRY_KEYS)
    if inner is None:
        return None
    inner.require("attempts")
    return RetryPolicy(
        attempts=_whole(inner, "attempts", 2, 2, MAX_ATTEMPTS),
        delay=_duration(inner, "delay", 0.5),
        backoff=_factor(inner),
        max_delay=_duration(inner, "max_delay", 30.0),
        when=_causes(inner),
    )


def _causes(place: Place) -> tuple[Any, ...]:
    value = place.data.get("when", RetryPolicy.__dataclass_fields__["when"].default)
    causes = [value] if isinstance(value, str) else value
    if not isinstance(causes, list | tuple) or not causes:
        place.fault("when", f"'when' must be a list of {', '.join(RETRY_CAUSES)}.")
        return ()
    for cause in causes:
        if cause not in RETRY_CAUSES:
            hint = nearest(cause, RETRY_CAUSES) if isinstance(cause, str) else "."
            place.fault("when", f"{cause!r} is no reason to try again{hint} There are {', '.join(RETRY_CAUSES)}.")
    return tuple(causes)


def _factor(place: Place) -> float:
    value = place.data.get("backoff", 2.0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 100:
        place.fault("backoff", "'backoff' must be a number from 1 to 100.")
        return 2.0
    return float(value)


def _concurrency(place: Place, parameters: Collection[str]) -> ConcurrencyLimit | None:
    if "concurrency" not in place.data:
        return None
    value = place.data["concurrency"]
    inner = _inner(place, "concurrency", {"limit": value} if _is_whole(value) else value, _CONCURRENCY_KEYS)
    if inner is None:
        return None
    inner.require("limit")
    by = inner.data.get("by")
    if by is not None and by not in parameters:
        hint = nearest(by, parameters) if isinstance(by, str) else "."
        inner.fault("by", f"'by' names {by!r}, which is not among the parameters{hint}")
    wait = 0.0 if inner.data.get("wait") in (None, 0) else _duration(inner, "wait", 0.0)
    return ConcurrencyLimit(_whole(inner, "limit", 1, 1, _MOST), by if isinstance(by, str) else None, wait)


def _inner(place: Place, key: str, value: Any, known: tuple[str, ...]) -> Place | None:
    if not isinstance(value, dict):
        place.fault(key, f"{key!r} must be a number, or a mapping with {', '.join(map(repr, known))}.")
        return None
    inner = Place(place.document, place.faults, place.at(key), value)
    inner.refuse_unknown(known)
    return inner


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _whole(place: Place, key: str, default: int, least: int, most: int) -> int:
    value = place.data.get(key, default)
    if not _is_whole(value) or not least <= value <= most:
        place.fault(key, f"{key!r} must be a whole number from {least} to {most}.")
        return default
    return int(value)


def _duration(place: Place, key: str, default: float) -> float:
    if key not in place.data:
        return default
    try:
        return parse_duration(place.data[key])
    except ValueError as error:
        place.fault(key, f"{key!r} cannot be used: {error}.")
        return default
