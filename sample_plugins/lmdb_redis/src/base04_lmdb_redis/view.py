"""The store within one transaction."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

import lmdb

from base04_hookspecs.errors import InvalidInput, ManagerUnavailable
from base04_lmdb_redis.records import (
    DIGEST_BYTES,
    NEVER,
    Record,
    digest_of,
    first_index,
    index_of,
    pack_moment,
    unpack,
    unpack_moment,
)
from base04_lmdb_redis.tables import Tables

_INTEGER: Final = re.compile(rb"(?!-0\Z)-?(0|[1-9][0-9]{0,18})")
_SMALLEST, _LARGEST = -(2**63), 2**63 - 1
_MOMENT_BYTES: Final = 8
_SWEPT_AT_ONCE: Final = 1000


class View:
    """Values as they are at one moment; the clock stands still. ``size`` is how many bytes may be in use."""

    def __init__(self, transaction: lmdb.Transaction[bytes], tables: Tables, now: int, size: int) -> None:
        self.transaction = transaction
        self.tables = tables
        self.now = now
        self._size = size
        self._used: int | None = None

    def find(self, key: bytes) -> Record | None:
        """Return the record of a key, None where there is none or its life has ended."""
        data = self.transaction.get(index_of(key), db=self.tables.values)
        record = None if data is None else unpack(data)
        return None if record is None or record.is_over(self.now) else record

    def put(self, key: bytes, value: bytes, ends: int = NEVER, tags: Iterable[bytes] = ()) -> None:
        """Store a value, with nothing left of what was there.

        Raises:
            ManagerUnavailable: there is no room.
        """
        self.require_room(len(value))
        index = index_of(key)
        self._forget(index)
        record = Record(ends, tuple(tags), b"" if index[1:] == key else key, value)
        self.transaction.put(index, record.pack(), db=self.tables.values)
        if ends != NEVER:
            self.transaction.put(pack_moment(ends) + index, b"", db=self.tables.lives)
        for tag in record.tags:
            self.transaction.put(tag + index, b"", db=self.tables.tags)

    def delete(self, key: bytes) -> bool:
        """Delete a key and tell whether there was one."""
        found = self.find(key) is not None
        return self._forget(index_of(key)) and found

    def expire(self, key: bytes, ends: int) -> bool:
        """Let a key end at another moment, which may be past; False where there is none."""
        record = self.find(key)
        if record is None:
            return False
        index = index_of(key)
        if record.ends != NEVER:
            self.transaction.delete(pack_moment(record.ends) + index, db=self.tables.lives)
        if ends <= self.now:
            self._forget(index)
            return True
        self.transaction.put(index, record._replace(ends=ends).pack(), db=self.tables.values)
        self.transaction.put(pack_moment(ends) + index, b"", db=self.tables.lives)
        return True

    def add(self, key: bytes, amount: int, ends: int) -> int:
        """Add to an integer, 0 where there is none, and return the sum; ``ends`` is for a new key.

        Raises:
            InvalidInput: the value is no integer of 64 bits, or the sum would be none.
        """
        record = self.find(key) or Record(ends, (), b"", b"0")
        if not _INTEGER.fullmatch(record.value) or not _SMALLEST <= int(record.value) <= _LARGEST:
            raise InvalidInput(f"The value at {key.decode()!r} is not an integer of 64 bits, so nothing can be added.")
        total = int(record.value) + amount
        if not _SMALLEST <= total <= _LARGEST:
            raise InvalidInput(f"The sum at {key.decode()!r} would leave 64 bits.")
        self.put(key, b"%d" % total, record.ends, record.tags)
        return total

    def delete_by_prefix(self, prefix: bytes) -> int:
        """Delete all keys with a prefix, and return how many there were."""
        return self._delete_all(list(self._with_prefix(prefix)))

    def delete_by_tag(self, tag: str) -> int:
        """Delete all keys with a tag, and return how many there were."""
        digest = digest_of(tag.encode())
        return self._delete_all([item[DIGEST_BYTES:] for item in self.beginning_with(digest, self.tables.tags)])

    def sweep(self, most: int = _SWEPT_AT_ONCE) -> int:
        """Delete what has ended, at most so many, and return how many those were."""
        ended: list[bytes] = []
        with self.transaction.cursor(self.tables.lives) as cursor:
            for item in cursor.iternext(keys=True, values=False):
                if unpack_moment(item) > self.now or len(ended) >= most:
                    break
                ended.append(item[_MOMENT_BYTES:])
        for index in ended:
            self._forget(index)
        return len(ended)

    def has_ended_values(self) -> bool:
        """Tell whether there is anything to sweep."""
        with self.transaction.cursor(self.tables.lives) as cursor:
            return cursor.first() and unpack_moment(cursor.key()) <= self.now

    def used_bytes(self) -> int:
        """Return how much is in use."""
        pages = page = 0
        for table in self.tables.all():
            stat = self.transaction.stat(table)
            pages += stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
            page = stat["psize"]
        return pages * page

    def count(self) -> int:
        """Return how many keys there are, those included that have ended and were not swept yet."""
        return self.transaction.stat(self.tables.values)["entries"]

    def beginning_with(self, start: bytes, table: object) -> Iterator[bytes]:
        """Yield the keys of a table that begin with some bytes."""
        with self.transaction.cursor(table) as cursor:  # type: ignore[arg-type]  # the type of handles is private
            if not cursor.set_range(start):
                return
            for item in cursor.iternext(keys=True, values=False):
                if not item.startswith(start):
                    return
                yield item

    def require_room(self, length: int) -> None:
        """Count what is about to be added.

        Raises:
            ManagerUnavailable: there is no room, and none could be made by sweeping.
        """
        if self._used is None:
            self._used = self.used_bytes()
        if self._used + length > self._size:
            while self.sweep():
                pass
            self._used = self.used_bytes()
        if self._used + length > self._size:
            raise ManagerUnavailable(
                f"The LMDB store has no room: {self._used} of {self._size} bytes are in use. Set a larger size, or "
                "let values end with a ttl."
            )
        self._used += length

    def _with_prefix(self, prefix: bytes) -> Iterator[bytes]:
        plain = first_index(prefix)
        for index in self.beginning_with(plain, self.tables.values):
            if len(plain) > len(prefix):
                yield index
                continue
            data = self.transaction.get(index, db=self.tables.values)
            if data is not None and (unpack(data).key or index[1:]).startswith(prefix):
                yield index

    def _delete_all(self, indexes: list[bytes]) -> int:
        deleted = 0
        for index in indexes:
            data = self.transaction.get(index, db=self.tables.values)
            deleted += data is not None and not unpack(data).is_over(self.now)
            self._forget(index)
        return deleted

    def _forget(self, index: bytes) -> bool:
        data = self.transaction.pop(index, db=self.tables.values)
        if data is None:
            return False
        record = unpack(data)
        if record.ends != NEVER:
            self.transaction.delete(pack_moment(record.ends) + index, db=self.tables.lives)
        for tag in record.tags:
            self.transaction.delete(tag + index, db=self.tables.tags)
        return True
