"""Tokens that were verified before."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

_MAX_TOKEN: Final = 2048
"""Longer tokens are not remembered, so that the memory is bounded by the number of entries."""


@dataclass(slots=True)
class Verified:
    """What a token said whose signature and claims were found good; ``begins`` and ``ends`` are when it is valid."""

    payload: dict[str, Any]
    kid: str
    begins: float
    ends: float
    nested: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self.nested = tuple(name for name, value in self.payload.items() if isinstance(value, dict | list))

    def copy_of_payload(self) -> dict[str, Any]:
        """Return the payload, which the caller may change, with ``user_id``."""
        payload = self.payload.copy()
        for name in self.nested:
            payload[name] = _copied(payload[name])
        payload["user_id"] = payload["sub"]
        return payload


class VerifiedTokens:
    """The tokens used most recently, at most ``size``.

    They are kept in two generations: where the young one is full it becomes the old one, and the old one goes. A use
    brings an entry back into the young one. Only tokens with a good signature get here, so strangers cannot fill it.
    """

    def __init__(self, size: int) -> None:
        self._half = (size + 1) // 2
        self._young: dict[str, Verified] = {}
        self._old: dict[str, Verified] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, token: str) -> Verified | None:
        """Return what is remembered of a token."""
        found = self._young.get(token)
        if found is None and self._old and (found := self._old.pop(token, None)) is not None:
            self.add(token, found)
        return found

    def add(self, token: str, verified: Verified) -> None:
        """Remember a token."""
        if not self._half or len(token) > _MAX_TOKEN:
            return
        if len(self._young) >= self._half:
            self._old, self._young = self._young, {}
        self._young[token] = verified

    def forget(self, token: str) -> None:
        """Remember a token no more."""
        self._young.pop(token, None)
        self._old.pop(token, None)

    def clear(self) -> None:
        """Remember nothing."""
        self._young, self._old = {}, {}


def _copied(value: Any) -> Any:
    if isinstance(value, list):
        return [_copied(item) if isinstance(item, dict | list) else item for item in value]
    return {name: _copied(item) if isinstance(item, dict | list) else item for name, item in value.items()}
