"""Denials, told once at once and then by number: a flood of them fills neither the audit log nor the log."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from base04.actions.limits import network_of
from base04_hookspecs.context import RequestContext
from base04_hookspecs.host_hooks import AuditEvent

_LONGEST: Final = 200

Key = tuple[str, str | None, str]


@dataclass(slots=True)
class _Bucket:
    """The denials of one address for one reason, in one window."""

    first: AuditEvent
    began: float
    further: int = 0
    last_at: float = 0.0
    paths: dict[str, None] = field(default_factory=dict)


class Denials:
    """Counts denials by event, address and reason, at most ``size`` of them in a window of ``window_s`` seconds.

    Where there are more, all others are counted as one, ``many``.
    """

    def __init__(self, window_s: float, size: int) -> None:
        self._window_s, self._size = window_s, size
        self._buckets: dict[Key, _Bucket] = {}

    def __len__(self) -> int:
        return len(self._buckets)

    def note(self, event: str, reason: str, context: RequestContext, details: Mapping[str, Any]) -> AuditEvent | None:
        """Count a denial; return it where it is the first of its kind, to be told at once."""
        key: Key = (event, network_of(context.client_ip), reason[:_LONGEST])
        if key not in self._buckets and len(self._buckets) >= self._size:
            key = (event, "many", "many")
        bucket = self._buckets.get(key)
        if bucket is not None:
            bucket.further += 1
            bucket.last_at = time.time()
            if len(bucket.paths) < 5:
                bucket.paths[str(details.get("path", ""))] = None
            return None
        first = _event(event, context, {**details, "reason": key[2]})
        if key[1] == "many":
            first["client_ip"] = None
        self._buckets[key] = _Bucket(first, time.monotonic(), last_at=first["at"])
        return first

    def ended(self, *, all_windows: bool = False) -> list[AuditEvent]:
        """Return the counts of the windows that have ended, and begin anew."""
        now = time.monotonic()
        over = [key for key, bucket in self._buckets.items() if all_windows or bucket.began + self._window_s <= now]
        return [_counted(bucket) for bucket in map(self._buckets.pop, over) if bucket.further]


def _event(event: str, context: RequestContext, details: dict[str, Any]) -> AuditEvent:
    return {
        "event": event,
        "at": time.time(),
        "outcome": "denied",
        "user_id": context.principal.user_id,
        "client_ip": context.client_ip,
        "request_id": context.request_id,
        "details": {name: value[:_LONGEST] if isinstance(value, str) else value for name, value in details.items()},
    }


def _counted(bucket: _Bucket) -> AuditEvent:
    details = {
        **bucket.first["details"],
        "count": bucket.further,
        "since": bucket.first["at"],
        "last_at": bucket.last_at,
    }
    if bucket.paths:
        details["paths"] = [path[:_LONGEST] for path in bucket.paths]
    return {**bucket.first, "at": time.time(), "user_id": None, "request_id": None, "details": details}
