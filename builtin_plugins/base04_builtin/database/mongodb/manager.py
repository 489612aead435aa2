"""The provider ``mongodb`` of the role ``database``."""

from __future__ import annotations

from base04_builtin.database.mongodb.access import MongoAccess
from base04_builtin.database.mongodb.core import MongoCore
from base04_builtin.database.mongodb.settings import MongoSettings


class MongoDatabaseManager(MongoAccess):
    """A MongoDB, or what speaks its protocol. The client belongs to the event loop on which it was started.

    In a replica set (one member is enough) or a sharded cluster everything that the contract says holds. A server that
    stands alone refuses changes of several rows, unless settings accept ``single_document_atomicity``.
    """

    def __init__(self, settings: MongoSettings) -> None:
        super().__init__(MongoCore(settings))

    def __repr__(self) -> str:
        return "<MongoDatabaseManager>"

    async def start(self) -> None:
        """Connect, and find out what the server can do."""
        await self._core.start()

    async def stop(self) -> None:
        """Close all connections."""
        await self._core.stop()
