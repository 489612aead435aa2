"""The keys that sign and verify, as they are kept: several, one of which signs at a time."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from base04_builtin.jwt.key_rules import check_key, is_public, public_part, thumbprint
from base04_builtin.jwt.strict_json import parse_object


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A JSON web key with its times in seconds since the epoch: it verifies from when it is there until ``ends_at``.

    It signs from ``signs_from`` until the next key does.
    """

    jwk: Mapping[str, Any] = field(repr=False)
    created_at: float
    signs_from: float
    ends_at: float | None = None

    @property
    def kid(self) -> str:
        """Its thumbprint."""
        return str(self.jwk["kid"])

    @property
    def algorithm(self) -> str:
        """The one algorithm that it is for."""
        return str(self.jwk["alg"])

    @property
    def can_sign(self) -> bool:
        """Whether its secret part is here."""
        return not is_public(self.jwk)

    def has_ended(self, now: float) -> bool:
        """Tell whether it verifies nothing any more."""
        return self.ends_at is not None and self.ends_at <= now


@dataclass(frozen=True, slots=True)
class KeySet:
    """All keys at one moment, in the order in which they sign. Each change makes the next ``version``."""

    version: int
    keys: tuple[StoredKey, ...]

    def signing(self, now: float) -> StoredKey:
        """Return the key that signs at a time."""
        able = [key for key in self.keys if key.can_sign]
        return next((key for key in reversed(able) if key.signs_from <= now), able[0])

    def rotated(self, key: StoredKey, now: float, overlap: float) -> KeySet:
        """Return the next set, in which a further key signs, and earlier ones end ``overlap`` after that."""
        end = key.signs_from + overlap
        kept = (
            replace(old, ends_at=end if old.ends_at is None else min(old.ends_at, end))
            for old in self.keys
            if not old.has_ended(now)
        )
        return KeySet(self.version + 1, (*kept, key))

    def tidied(self, now: float) -> KeySet:
        """Return the next set without what is of no use: keys that have ended, secrets of those that signed before.

        It is this same set where there is nothing to remove.
        """
        signing = self.signing(now)
        kept = tuple(
            replace(key, jwk=public_part(key.jwk))
            if key.signs_from < signing.signs_from and key.can_sign and key.jwk["kty"] != "oct"
            else key
            for key in self.keys
            if not key.has_ended(now)
        )
        return self if kept == self.keys else KeySet(self.version + 1, kept)

    def to_json(self) -> str:
        """Write it as ``read_key_set`` reads it; secrets are in it."""
        keys = [
            {
                "jwk": dict(key.jwk),
                "created_at": key.created_at,
                "signs_from": key.signs_from,
                "ends_at": key.ends_at,
            }
            for key in self.keys
        ]
        return json.dumps({"keys": keys})


def stored_key(jwk: Mapping[str, Any], created_at: float, signs_from: float, ends_at: float | None = None) -> StoredKey:
    """Return a key that was checked, with its thumbprint as ``kid``.

    Raises:
        ValueError: it is too weak, not what its algorithm wants, or has another ``kid``.
    """
    check_key(jwk)
    kid = thumbprint(jwk)
    if jwk.get("kid", kid) != kid:
        raise ValueError("its kid is not its thumbprint (RFC 7638)")
    return StoredKey({**jwk, "kid": kid, "use": "sig"}, created_at, signs_from, ends_at)


def read_key_set(version: int, text: str) -> KeySet:
    """Read a set.

    Raises:
        ValueError: it is not one; the message holds nothing of a key.
    """
    try:
        entries: Any = parse_object(text.encode("utf-8", "replace")).get("keys")
    except ValueError:
        entries = None
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise ValueError('it is not a JSON object with a list "keys"')
    keys = sorted((_read_key(entry) for entry in entries), key=lambda key: (key.signs_from, key.created_at))
    if not any(key.can_sign for key in keys):
        raise ValueError("no key in it can sign")
    if len({key.kid for key in keys}) != len(keys):
        raise ValueError("it holds one key twice")
    return KeySet(version, tuple(keys))


def _read_key(entry: Mapping[str, Any]) -> StoredKey:
    jwk, ends_at = entry.get("jwk"), entry.get("ends_at")
    if not isinstance(jwk, dict):
        raise ValueError('a key of it has no member "jwk"')  # noqa: TRY004  # it is about a text
    return stored_key(
        jwk,
        _time(entry.get("created_at", 0.0)),
        _time(entry.get("signs_from", 0.0)),
        None if ends_at is None else _time(ends_at),
    )


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError("a time in it is not a number of seconds")
    return float(value)
