"""How values lie in the file: keys of LMDB are short, so that long ones are cut and hashed."""

from __future__ import annotations

import hashlib
from struct import Struct
from typing import Final, NamedTuple

LONGEST_PLAIN: Final = 400
"""Bytes of a key that is its own index. LMDB takes 511, and an index stands behind a tag or a moment, too."""

_HASHED: Final = LONGEST_PLAIN + 1
_HASH_BYTES: Final = 32
_HEAD: Final = Struct(">QHI")
_MOMENT: Final = Struct(">Q")
DIGEST_BYTES: Final = 16
NEVER: Final = 0


class Record(NamedTuple):
    """A value with what belongs to it. ``ends`` is in milliseconds since the epoch, or ``NEVER``."""

    ends: int
    tags: tuple[bytes, ...]
    key: bytes
    value: bytes

    def is_over(self, now: int) -> bool:
        """Tell whether its life has ended."""
        return self.ends != NEVER and self.ends <= now

    def pack(self) -> bytes:
        """Return it as it is stored."""
        return b"".join((_HEAD.pack(self.ends, len(self.tags), len(self.key)), *self.tags, self.key, self.value))


def unpack(data: bytes) -> Record:
    """Return a record that was stored."""
    ends, tags, length = _HEAD.unpack_from(data)
    begin = _HEAD.size + tags * DIGEST_BYTES
    found = tuple(data[at : at + DIGEST_BYTES] for at in range(_HEAD.size, begin, DIGEST_BYTES))
    return Record(ends, found, data[begin : begin + length], data[begin + length :])


def index_of(key: bytes) -> bytes:
    """Return where a key is kept. The order of indexes is that of keys, up to where they are cut.

    A byte stands in front, because LMDB takes no empty key. Hashed indexes are longer than all others, so that no
    key can be made to look like one.
    """
    if len(key) <= LONGEST_PLAIN:
        return b"k" + key
    return b"k" + key[: _HASHED - _HASH_BYTES] + hashlib.sha256(key).digest()


def first_index(prefix: bytes) -> bytes:
    """Return what all indexes of keys with a prefix begin with."""
    return b"k" + prefix[: _HASHED - _HASH_BYTES]


def digest_of(name: bytes) -> bytes:
    """Return what stands for a tag or a channel."""
    return hashlib.sha256(name).digest()[:DIGEST_BYTES]


def pack_moment(moment: int) -> bytes:
    """Return a number so that the order of bytes is that of numbers."""
    return _MOMENT.pack(moment)


def unpack_moment(data: bytes) -> int:
    """Return the number at the beginning of some bytes."""
    moment: int = _MOMENT.unpack_from(data)[0]
    return moment
