"""Secrets that were read a moment ago."""

from __future__ import annotations

import time
from typing import Any


class SecretCache:
    """Keeps the keys of a path for ``ttl`` seconds; nothing longer, whether the vault can be reached or not."""

    def __init__(self, ttl: float) -> None:
        self._ttl = ttl
        self._kept: dict[str, tuple[float, dict[str, Any]]] = {}
        self._dropped: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<SecretCache paths={len(self._kept)}>"

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, path: str) -> dict[str, Any] | None:
        """Return the keys of a path, None where they are not known or too old."""
        ends, keys = self._kept.get(path, (0.0, {}))
        if time.monotonic() < ends:
            return keys
        self._kept.pop(path, None)
        return None

    def age(self, path: str) -> int:
        """Return a number that grows when a path is dropped. Ask for it before reading, and give it to ``put``."""
        return self._dropped.get(path, 0)

    def put(self, path: str, keys: dict[str, Any], age: int) -> None:
        """Keep what was read, unless the path was dropped meanwhile."""
        if age == self.age(path):
            self._kept[path] = (time.monotonic() + self._ttl, keys)

    def drop(self, path: str) -> None:
        """Forget a path: it has changed."""
        self._kept.pop(path, None)
        self._dropped[path] = self.age(path) + 1

    def clear(self) -> None:
        """Forget everything."""
        self._kept.clear()
