"""From settings to servers that answer."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from redis.exceptions import RedisError

from base04_builtin.redis.server.cluster import ClusterTopology
from base04_builtin.redis.server.connector import Connector
from base04_builtin.redis.server.failures import Lost, NotSent, answered, is_passing, is_reply, refusal, unavailable
from base04_builtin.redis.server.node import Node
from base04_builtin.redis.server.place import Address, Place
from base04_builtin.redis.server.settings import ServerRedisSettings
from base04_builtin.redis.server.topology import SentinelTopology, SingleTopology, Topology, require_master
from base04_hookspecs.errors import ConfigurationError


async def open_topology(topology: Topology, timeout_s: float) -> None:
    """Find the servers and make sure that they answer.

    Raises:
        ConfigurationError: they refuse us, or we them, and would the next time too.
        ManagerUnavailable: none answers.
    """
    try:
        await topology.open(asyncio.get_running_loop().time() + timeout_s)
    except (NotSent, Lost, RedisError) as error:
        raise _start_error(error) from error


def topology_of(place: Place, settings: ServerRedisSettings, tls: ssl.SSLContext | None) -> Topology:
    """Return the servers that the settings name, with no connection to any of them yet."""

    def connector(username: str | None, password: str | None, **options: Any) -> Connector:
        return Connector(
            settings.connect_timeout,
            username=username,
            password=password,
            client_name=settings.client_name,
            tls=tls,
            **options,
        )

    watched = place.kind == "sentinel"
    servers = connector(place.username, place.password, db=place.db, check=require_master if watched else None)

    def make(address: Address) -> Node:
        return Node(
            address,
            servers,
            size=settings.pool_size,
            wait_s=settings.pool_timeout,
            reply_timeout_s=settings.reply_timeout,
        )

    if place.kind == "cluster":
        return ClusterTopology(place.nodes, make)
    if watched and place.service is not None:
        who = settings.sentinel
        username = who.username.get_secret_value() if who and who.username else None
        password = who.password.get_secret_value() if who and who.password else None
        sentinels = connector(username, password)
        return SentinelTopology(place.nodes, place.service, sentinels, settings.reply_timeout, make)
    return SingleTopology(place.nodes[0], make)


def _start_error(error: Exception) -> Exception:
    reason = refusal(error)
    if reason is not None:
        return ConfigurationError(f"The Redis server refuses us, or we it: {reason}.")
    if isinstance(error, RedisError) and is_reply(error) and not is_passing(error):
        return answered(None, error)
    return unavailable(None, error)
