"""Opening connections that are ready for commands."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final

import structlog
from redis.asyncio.connection import AbstractConnection, Connection, SSLConnection, UnixDomainSocketConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from base04_builtin.redis.server.failures import NotSent, told
from base04_builtin.redis.server.place import Address
from base04_builtin.redis.server.settings import TlsSettings
from base04_hookspecs.errors import ConfigurationError

log = structlog.get_logger()

_RESP: Final = 2


class _PromptSSLConnection(SSLConnection):
    """Closes at once when told not to wait, as a plain one does.

    TLS would otherwise keep the socket for the other side's farewell, which a dead one never says.
    """

    async def disconnect(self, nowait: bool = False, *args: Any, **options: Any) -> None:
        writer = self._writer
        await super().disconnect(nowait, *args, **options)
        if nowait and writer is not None:
            writer.transport.abort()


class Connector:
    """Opens connections with the same credentials, database and TLS to any address.

    redis-py's own retries are off: it cannot know which commands may be sent twice. Its own timeouts are off too, since
    ours cover a command and its reply together.
    """

    def __init__(
        self,
        timeout_s: float,
        *,
        username: str | None = None,
        password: str | None = None,
        db: int = 0,
        client_name: str | None = None,
        tls: ssl.SSLContext | None = None,
        check: Callable[[AbstractConnection], Awaitable[None]] | None = None,
    ) -> None:
        self._timeout_s = timeout_s
        self._tls = tls
        self._check = check
        self._options: dict[str, Any] = {
            "username": username,
            "password": password,
            "db": db,
            "client_name": client_name,
            "driver_info": None,
            "protocol": _RESP,
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "retry": Retry(NoBackoff(), 0),
        }

    async def open(self, address: Address, deadline: float) -> AbstractConnection:
        """Connect, authenticate and select the database.

        Raises:
            NotSent: that failed, or took longer than until ``deadline`` on the loop's clock.
        """
        connection = self._made(address)
        try:
            async with asyncio.timeout_at(min(deadline, asyncio.get_running_loop().time() + self._timeout_s)):
                await connection.connect()  # type: ignore[no-untyped-call]  # of redis-py
                if self._check is not None:
                    await self._check(connection)
        except (OSError, RedisError) as error:
            await close_now(connection)
            doubt = " Does it speak TLS?" if self._tls is not None and isinstance(error, TimeoutError) else ""
            raise NotSent(f"{shown(address)}: {told(error)}{doubt}") from error
        except BaseException:
            await close_now(connection)
            raise
        return connection

    def _made(self, address: Address) -> AbstractConnection:
        host, port = address
        if not port:
            return UnixDomainSocketConnection(path=host, **self._options)
        if self._tls is None:
            return Connection(host=host, port=port, **self._options)
        connection = _PromptSSLConnection(host=host, port=port, **self._options)
        connection.ssl_context.context = self._tls  # read from its files once, rather than for each connection
        return connection


def tls_context(settings: TlsSettings) -> ssl.SSLContext:
    """Read the files that TLS needs. Blocks.

    Raises:
        ConfigurationError: a file is not there, or not what it should be.
    """
    files = ", ".join(str(path) for path in (settings.ca, settings.certificate, settings.key) if path is not None)
    try:
        context = ssl.create_default_context(cafile=None if settings.ca is None else str(settings.ca))
        if settings.certificate is not None:
            secret = settings.key_password
            password = None if secret is None else secret.get_secret_value()
            context.load_cert_chain(settings.certificate, settings.key, password or "")
    except OSError as error:
        reason = error.strerror or getattr(error, "reason", None) or type(error).__name__
        raise ConfigurationError(f"The files for TLS ({files}) cannot be used: {reason}.") from error
    if not settings.verify:
        log.warning("certificates of redis servers are not verified, anybody can pose as one")
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def close_now(connection: AbstractConnection) -> None:
    """Close a connection without waiting for the other side; never suspends, so that no cancellation gets between."""
    with contextlib.suppress(Exception):
        await connection.disconnect(nowait=True)


def shown(address: Address) -> str:
    """Return an address as people write it."""
    host, port = address
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
