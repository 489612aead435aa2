"""Open connections, counted from what the driver reports."""

from __future__ import annotations

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


class OpenConnections(ConnectionPoolListener):
    """Counts the open connections of one client."""

    def __init__(self) -> None:
        self.count = 0

    def connection_created(self, event: ConnectionCreatedEvent) -> None:
        self.count += 1

    def connection_closed(self, event: ConnectionClosedEvent) -> None:
        self.count -= 1

    def _nothing(self, event: object) -> None:
        """Nothing is counted here."""

    def connection_check_out_started(self, event: ConnectionCheckOutStartedEvent) -> None:
        self._nothing(event)

    def connection_check_out_failed(self, event: ConnectionCheckOutFailedEvent) -> None:
        self._nothing(event)

    def connection_checked_out(self, event: ConnectionCheckedOutEvent) -> None:
        self._nothing(event)

    def connection_checked_in(self, event: ConnectionCheckedInEvent) -> None:
        self._nothing(event)

    def connection_ready(self, event: ConnectionReadyEvent) -> None:
        self._nothing(event)

    def pool_created(self, event: PoolCreatedEvent) -> None:
        self._nothing(event)

    def pool_ready(self, event: PoolReadyEvent) -> None:
        self._nothing(event)

    def pool_cleared(self, event: PoolClearedEvent) -> None:
        self._nothing(event)

    def pool_closed(self, event: PoolClosedEvent) -> None:
        self._nothing(event)
