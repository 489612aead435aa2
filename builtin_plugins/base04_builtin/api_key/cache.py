"""Keys that were looked up a moment ago."""

from __future__ import annotations

import time
from collections import OrderedDict

from base04_builtin.api_key.records import KeyRecord


class KeyCache:
    """At most ``size`` records, each for at most ``max_age`` seconds.

    ``drop`` is in effect at once, also against a look-up that began before it and ends after it: the result of that
    one is not kept.
    """

    def __init__(self, size: int, max_age: float) -> None:
        self._size = size
        self._max_age = max_age
        self._records: OrderedDict[str, tuple[KeyRecord, float]] = OrderedDict()
        self._epoch = 0

    def __len__(self) -> int:
        return len(self._records)

    @property
    def epoch(self) -> int:
        """What a look-up notes before it begins, for ``keep``."""
        return self._epoch

    def get(self, key_id: str) -> KeyRecord | None:
        """Return a record that is fresh enough."""
        found = self._records.get(key_id)
        if found is None or time.monotonic() >= found[1]:
            return None
        return found[0]

    def keep(self, record: KeyRecord, epoch: int) -> None:
        """Keep a record that was read after ``epoch`` was noted."""
        if epoch != self._epoch or self._max_age <= 0:
            return
        self._records[record.key_id] = (record, time.monotonic() + self._max_age)
        self._records.move_to_end(record.key_id)
        if len(self._records) > self._size:
            self._records.popitem(last=False)

    def drop(self, key_id: str) -> None:
        """Forget a key that has changed."""
        self._epoch += 1
        self._records.pop(key_id, None)
