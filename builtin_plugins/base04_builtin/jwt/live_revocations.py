"""The revocations that still matter, in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from base04_builtin.jwt.claims import AFTER, FAMILY, SOURCE, is_time

KINDS: Final = ("jti", "family", "user", "source", "key")

_SKEW: Final = 90.0
"""How far the clock that a token was issued by may have been ahead of the one that its user was revoked by."""


@dataclass(frozen=True, slots=True)
class Revocation:
    """What is stopped: tokens whose ``kind`` has the ``value``, those issued until ``cutoff`` or all."""

    kind: str
    value: str
    expires_at: float
    cutoff: float | None = None

    @property
    def entry(self) -> str:
        """The name of the stored row."""
        return f"{self.kind}:{self.value}"


def revocation_of(entry: object, cutoff: object, expires_at: object) -> Revocation | None:
    """Return a revocation as it is stored or announced, None for what is not one."""
    if not isinstance(entry, str) or not is_time(expires_at) or not (cutoff is None or is_time(cutoff)):
        return None
    kind, _, value = entry.partition(":")
    if kind not in KINDS or not value or (cutoff is None) is (kind in ("user", "source")):
        return None
    return Revocation(kind, value, expires_at, cutoff)


class LiveRevocations:
    """What is revoked, by kind. An entry is here until the last token that it stops has ended."""

    def __init__(self) -> None:
        self._stopped: dict[str, dict[str, float]] = {kind: {} for kind in ("jti", "family", "key")}
        self._cut: dict[str, dict[str, tuple[float, float]]] = {kind: {} for kind in ("user", "source")}
        self._empty = True
        self._watchers: list[Callable[[], None]] = []

    def __len__(self) -> int:
        stopped, cut = self._stopped.values(), self._cut.values()
        return sum(map(len, stopped)) + sum(map(len, cut))

    def merge(self, revocation: Revocation) -> None:
        """Take in a revocation; one of the same thing is joined with it, to stop what either stops."""
        if self._join(revocation):
            for watcher in tuple(self._watchers):
                watcher()

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back when more is revoked than before; returns a function that ends it."""
        watchers = self._watchers
        watchers.append(callback)
        return lambda: watchers.remove(callback) if callback in watchers else None

    def _join(self, revocation: Revocation) -> bool:
        """Take in a revocation and tell whether it stops anything that was not stopped."""
        self._empty = False
        kind, value, expires_at = revocation.kind, revocation.value, revocation.expires_at
        if revocation.cutoff is None:
            entries = self._stopped[kind]
            is_new = value not in entries
            entries[value] = max(expires_at, entries.get(value, expires_at))
            return is_new
        before = self._cut[kind].get(value)
        known = before or (revocation.cutoff, expires_at)
        after = max(known[0], revocation.cutoff), max(known[1], expires_at)
        self._cut[kind][value] = after
        return before is None or after[0] > before[0]

    def drop_expired(self, now: float) -> None:
        """Forget what stops no token any more."""
        for kind, ends in self._stopped.items():
            self._stopped[kind] = {value: end for value, end in ends.items() if end > now}
        for kind, cuts in self._cut.items():
            self._cut[kind] = {value: cut for value, cut in cuts.items() if cut[1] > now}
        self._empty = len(self) == 0

    def cutoff(self, kind: str, value: str) -> float | None:
        """Return until when tokens of a user or a source are stopped, None where none are."""
        found = self._cut[kind].get(value)
        return None if found is None else found[0]

    def after(self, user_id: str, source: str | None) -> dict[str, float] | None:
        """Return what a new token says, so that no revocation that was before it stops it; None for nothing."""
        if self._empty:
            return None
        known: dict[str, float] = {}
        for kind, value in (("user", user_id), ("source", source)):
            cutoff = self.cutoff(kind, value) if value is not None else None
            if cutoff is not None:
                known[kind] = cutoff
        return known or None

    def reason_against(self, payload: Mapping[str, Any], kid: str) -> str | None:
        """Return what revoked a token, None if nothing did."""
        if self._empty:
            return None
        stopped = self._stopped
        if payload["jti"] in stopped["jti"]:
            return "jti"
        if payload.get(FAMILY) in stopped["family"]:
            return "family"
        if self._is_cut("user", payload["sub"], payload):
            return "user"
        if self._is_cut("source", payload.get(SOURCE), payload):
            return "source"
        return "key" if kid in stopped["key"] else None

    def _is_cut(self, kind: str, value: str | None, payload: Mapping[str, Any]) -> bool:
        found = self._cut[kind].get(value) if value is not None else None
        if found is None:
            return False
        known = payload.get(AFTER)
        after = known.get(kind) if isinstance(known, dict) else None
        if is_time(after) and after >= found[0]:
            return False
        return bool(payload["iat"] <= found[0] + _SKEW)
