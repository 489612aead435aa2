"""How connections are opened."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

from pydantic import SecretStr

from base04_builtin.database.postgresql.driver import FAILURES, Connection, connect
from base04_builtin.database.postgresql.errors import connecting
from base04_builtin.database.postgresql.settings import PostgresSettings, TlsSettings, hosts
from base04_hookspecs.errors import ConfigurationError


class Connector:
    """Opens connections with one set of credentials.

    Args:
        settings: the provider's settings.
        url: whom to connect as, and where to.
        read_only: whether the server is to refuse every change on them.
    """

    def __init__(self, settings: PostgresSettings, url: SecretStr, *, read_only: bool) -> None:
        self._settings = settings
        self._url = url
        self._read_only = read_only
        self.where = hosts(url) or "its default place"

    async def connect(self) -> Connection:
        """Open a connection.

        Raises:
            ConfigurationError: the server refuses us, and will go on doing so.
            ManagerUnavailable: it cannot be reached just now.
        """
        try:
            options: dict[str, Any] = {}
            if self._settings.tls is not None:
                options["ssl"] = await self._tls(self._settings.tls)
            if self._settings.password is not None and self._url is self._settings.url:
                options["password"] = self._settings.password.get_secret_value()
            return await connect(
                self._url.get_secret_value(),
                timeout=self._settings.connect_timeout,
                statement_cache_size=16 if self._settings.prepared_statements else 0,
                server_settings=self._server_settings(),
                **options,
            )
        except ValueError as error:  # its message, and that of its cause, may quote the URL
            raise connecting(error, self.where) from None
        except FAILURES as error:
            raise connecting(error, self.where) from error

    async def _tls(self, tls: TlsSettings) -> ssl.SSLContext:
        try:
            return await asyncio.to_thread(_context, tls)
        except (OSError, ValueError) as error:
            raise ConfigurationError(
                f"A file of the TLS settings for PostgreSQL at {self.where} cannot be used "
                f"({getattr(error, 'reason', None) or getattr(error, 'strerror', None) or 'it is not PEM'}): "
                "check tls.ca, tls.certificate, tls.key and tls.key_password."
            ) from error

    def _server_settings(self) -> dict[str, str]:
        milliseconds = str(max(1, round(self._settings.statement_timeout * 1000)))
        return {
            "application_name": self._settings.application_name,
            "statement_timeout": milliseconds,
            "idle_in_transaction_session_timeout": milliseconds,
            "default_transaction_read_only": "on" if self._read_only else "off",
        }


def _context(tls: TlsSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.certificate is not None:
        password = tls.key_password.get_secret_value() if tls.key_password is not None else ""
        context.load_cert_chain(tls.certificate, tls.key, password)
    return context
