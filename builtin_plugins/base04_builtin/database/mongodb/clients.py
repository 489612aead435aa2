"""One client for each address that the settings name, and which access role uses which."""

from __future__ import annotations

from typing import Any, Final

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from base04_builtin.database.mongodb.errors import clear_errors
from base04_builtin.database.mongodb.lane import Lane
from base04_builtin.database.mongodb.pool import OpenConnections
from base04_builtin.database.mongodb.settings import MongoSettings
from base04_hookspecs import AccessRole
from base04_hookspecs.database import PoolStatus
from base04_hookspecs.errors import ConfigurationError, ManagerUnavailable

_DEFAULT_DATABASE: Final = "base04"


class Clients:
    """The clients; a role without an address of its own uses that of ``read_write``."""

    def __init__(self, settings: MongoSettings) -> None:
        self._settings = settings
        self._clients: dict[str, AsyncMongoClient[dict[str, Any]]] = {}
        self._lanes: dict[str, Lane] = {}
        self._open: dict[str, OpenConnections] = {}

    def open(self) -> None:
        """Make the clients; they connect when they are first used.

        Raises:
            ConfigurationError: an address or a file that the settings name cannot be used.
        """
        settings = self._settings
        given = {"read_write": settings.url, "read_only": settings.read_only_url, "admin": settings.admin_url}
        for role, url in given.items():
            if url is None:
                continue
            self._open[role] = OpenConnections()
            self._lanes[role] = Lane(
                settings.pool_size, wait_s=settings.pool_timeout, call_s=settings.statement_timeout
            )
            options = {**settings.client_options(), "event_listeners": [self._open[role]]}
            if role == "read_write" and settings.password is not None:
                options["password"] = settings.password.get_secret_value()
            try:
                with clear_errors(writes=False):
                    self._clients[role] = AsyncMongoClient(url.get_secret_value(), **options)
            except OSError as error:
                raise ConfigurationError(f"The file {error.filename!r} cannot be read: {error.strerror}.") from error
            except (ValueError, TypeError) as error:
                raise ConfigurationError(f"The address of {role} has an option that cannot be used.") from error

    def has_own(self, access: AccessRole) -> bool:
        """Tell whether an access role connects with an address of its own."""
        return access in self._clients

    def lane(self, access: AccessRole) -> Lane:
        """Return the way to the server of an access role.

        Raises:
            ManagerUnavailable: the manager has not started.
        """
        lane = self._lanes.get(access) or self._lanes.get("read_write")
        if lane is None:
            raise ManagerUnavailable("The database manager has not started.")
        return lane

    def database(self, access: AccessRole) -> AsyncDatabase[dict[str, Any]]:
        """Return the database as an access role sees it.

        Raises:
            ManagerUnavailable: the manager has not started.
        """
        client = self._clients.get(access) or self._clients.get("read_write")
        if client is None:
            raise ManagerUnavailable("The database manager has not started.")
        if self._settings.database is not None:
            return client[self._settings.database]
        return client.get_default_database(_DEFAULT_DATABASE)

    @property
    def errors(self) -> int:
        """How many calls found no server, no turn or no answer."""
        return sum(lane.errors for lane in self._lanes.values())

    def pool_status(self) -> PoolStatus:
        """Return the use of all connections."""
        lanes = self._lanes.values()
        in_use = sum(lane.in_use for lane in lanes)
        size = sum(lane.size for lane in lanes)
        there = min(sum(each.count for each in self._open.values()), size)
        return {
            "size": size,
            "in_use": in_use,
            "idle": max(there - in_use, 0),
            "waiting": sum(lane.waiting for lane in lanes),
        }

    async def finish(self) -> None:
        """Wait a moment for calls that are under way."""
        for lane in self._lanes.values():
            await lane.stop(self._settings.connect_timeout)

    async def close(self) -> None:
        """Close all connections."""
        for client in self._clients.values():
            await client.close()
