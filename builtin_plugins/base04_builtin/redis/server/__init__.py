"""The provider ``server`` of the role ``redis``: real servers, through redis-py's connections."""

from __future__ import annotations

from base04_builtin.redis.server.manager import ServerRedisManager
from base04_builtin.redis.server.settings import ServerRedisSettings

__all__ = ["ServerRedisManager", "ServerRedisSettings"]
