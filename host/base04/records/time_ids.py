"""Ids whose order is that of the moments they were made at."""

from __future__ import annotations

import secrets


def moment(at: float) -> str:
    """Return what the ids of a time begin with: its microseconds in 14 hexadecimal digits."""
    return f"{min(max(int(at * 1_000_000), 0), 16**14 - 1):014x}"


def new_id(at: float, random_bytes: int = 5) -> str:
    """Return an id; with 16 random bytes nobody can guess it."""
    return moment(at) + secrets.token_hex(random_bytes)
