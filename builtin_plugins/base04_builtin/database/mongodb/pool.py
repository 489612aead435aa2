"""Connections in use, counted from what the driver reports."""

from __future__ import annotations

from typing import Any

from pymongo.monitoring import (
    ConnectionCheckedInEvent,
    ConnectionCheckedOutEvent,
    ConnectionCheckOutFailedEvent,
    ConnectionCheckOutStartedEvent,
    ConnectionClosedEvent,
    ConnectionCreatedEvent,
    ConnectionPoolListener,
    ConnectionReadyEvent,
    PoolClearedEvent,
    PoolClosedEvent,
    PoolCreatedEvent,
    PoolReadyEvent,
)

from base04_hookspecs.database import PoolStatus


class PoolCounter(ConnectionPoolListener):
    """Counts the connections of one client; ``size`` is the most there may be."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._open = self._in_use = self._waiting = 0
        self.failures = 0

    def status(self) -> PoolStatus:
        """Return what is in use now."""
        in_use = max(self._in_use, 0)
        return {
            "size": self._size,
            "in_use": in_use,
            "idle": max(self._open - in_use, 0),
            "waiting": max(self._waiting, 0),
        }

    def connection_created(self, event: ConnectionCreatedEvent) -> None:
        self._open += 1

    def connection_closed(self, event: ConnectionClosedEvent) -> None:
        self._open -= 1

    def connection_check_out_started(self, event: ConnectionCheckOutStartedEvent) -> None:
        self._waiting += 1

    def connection_check_out_failed(self, event: ConnectionCheckOutFailedEvent) -> None:
        self._waiting -= 1
        self.failures += 1

    def connection_checked_out(self, event: ConnectionCheckedOutEvent) -> None:
        self._waiting -= 1
        self._in_use += 1

    def connection_checked_in(self, event: ConnectionCheckedInEvent) -> None:
        self._in_use -= 1

    def connection_ready(self, event: ConnectionReadyEvent) -> None:
        """Nothing is counted here."""

    def pool_created(self, event: PoolCreatedEvent) -> None:
        """Nothing is counted here."""

    def pool_ready(self, event: PoolReadyEvent) -> None:
        """Nothing is counted here."""

    def pool_cleared(self, event: PoolClearedEvent) -> None:
        """Nothing is counted here."""

    def pool_closed(self, event: PoolClosedEvent) -> None:
        """Nothing is counted here."""


def total(counters: Any) -> PoolStatus:
    """Return the sum over several clients."""
    statuses = [counter.status() for counter in counters]
    return {
        "size": sum(each["size"] for each in statuses),
        "in_use": sum(each["in_use"] for each in statuses),
        "idle": sum(each["idle"] for each in statuses),
        "waiting": sum(each["waiting"] for each in statuses),
    }
