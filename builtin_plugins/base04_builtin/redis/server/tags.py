"""Finding keys by tag, in a cluster too.

A value carries its tags behind its JSON, as white space that JSON allows there: a line feed, then for each tag its
digest in 64 blanks and tabs and a line feed. So tags live and die with the value, whoever sets, deletes or expires it,
and one server can tell whether a key has a tag.

For each tag there is an index: a sorted set of keys, with the time at which each ends. It may live on another server
than the keys. A key is noted before its value is set and once more after, and deletion looks at the value, strikes the
key off, and looks at the value again: so a key that is set at the same moment is deleted or still noted, never
neither. A key that is noted without need costs a look.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from base04_builtin.redis.arguments import name_bytes
from base04_builtin.redis.server.calls import Calls
from base04_builtin.redis.server.lua import DELETE_TAGGED, INDEX
from base04_builtin.redis.server.packing import pack

INDEX_PREFIX: Final = b"base04:tag:"
_DIGEST_BYTES: Final = 8
_DIGEST_BITS: Final = 8 * _DIGEST_BYTES
_BITS: Final = bytes.maketrans(b"01", b" \t")
_BLANKS: Final = bytes.maketrans(b" \t", b"01")
_MARGIN_MS: Final = 60_000
_AT_ONCE: Final = 500


def suffix(codes: Sequence[bytes]) -> bytes:
    """Return what stands behind the JSON of a value with these tags."""
    return b"\n" + b"".join(code + b"\n" for code in codes) if codes else b""


def code_of(tag: str) -> bytes:
    """Return the blanks and tabs that stand for a tag."""
    digest = hashlib.blake2b(name_bytes(tag, "tag"), digest_size=_DIGEST_BYTES).digest()
    return f"{int.from_bytes(digest):0{_DIGEST_BITS}b}".encode().translate(_BITS)


def codes_in(tail: bytes) -> list[bytes]:
    """Return the codes behind the JSON of a value."""
    return [code for code in tail.split(b"\n") if len(code) == _DIGEST_BITS]


def _index(code: bytes) -> bytes:
    return INDEX_PREFIX + f"{int(code.translate(_BLANKS), 2):016x}".encode()


class Tags:
    """The indices of all tags."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def note(self, key: bytes, codes: Iterable[bytes], life_ms: int | None) -> None:
        """Note that the key has the tags and will be gone after its life, None for no end."""
        life = 0 if life_ms is None else life_ms + _MARGIN_MS
        indices = [_index(code) for code in codes]
        await self._calls.run_many(indices, [pack("EVAL", INDEX, 1, index, key, life) for index in indices])

    async def delete(self, tag: str) -> int:
        """Delete all keys that have the tag and return how many."""
        code = code_of(tag)
        index = _index(code)
        deleted, cursor = 0, b"0"
        while True:
            request = pack("ZSCAN", index, cursor, "COUNT", _AT_ONCE)
            cursor, members = await self._calls.run(index, request)
            keys = members[::2]
            if keys:
                deleted += await self._delete_tagged(keys, code)
                await self._calls.run(index, pack("ZREM", index, *keys))
                deleted += await self._delete_tagged(keys, code)
            if cursor == b"0":
                return deleted

    async def _delete_tagged(self, keys: Sequence[bytes], code: bytes) -> int:
        marked = b"\n" + code + b"\n"
        requests = [pack("EVAL", DELETE_TAGGED, 1, key, marked) for key in keys]
        return sum(await self._calls.run_many(keys, requests))
