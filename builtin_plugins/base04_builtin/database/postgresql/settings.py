"""The settings of the provider ``postgresql``."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr

from base04_hookspecs.settings import DataPath, Duration, ManagerSettings

_SCHEMES: Final = ("postgresql", "postgres")
_ENCODE: Final = "percent-encode whatever is not a letter or a digit in user and password ('@' is %40, '/' is %2F)"


def check_url(url: SecretStr) -> SecretStr:
    """Return a URL that can be read without taking a part of its password for something else.

    Raises:
        ValueError: it cannot; the message holds nothing of the URL.
    """
    try:
        parts = urlsplit(url.get_secret_value())
    except ValueError:
        raise ValueError(f"the URL cannot be read: {_ENCODE}") from None
    if parts.scheme not in _SCHEMES:
        raise ValueError("the URL must begin with 'postgresql://'")
    if "@" in parts.path + parts.query or parts.fragment:
        raise ValueError(f"the URL cannot be read: {_ENCODE}")
    if not all(_port_is_sound(host) for host in hosts(url).split(",")):
        raise ValueError(f"a port in the URL is not a number from 1 to 65535; {_ENCODE}")
    return url


def hosts(url: SecretStr) -> str:
    """Return the part of the URL that says where the server is, for messages."""
    return urlsplit(url.get_secret_value()).netloc.rpartition("@")[2]


def _port_is_sound(host: str) -> bool:
    name, colon, port = host.rpartition(":")
    if not colon or port.endswith("]"):
        return True
    return port.isascii() and port.isdigit() and 0 < int(port) < 65536 and not (":" in name and "]" not in name)


PostgresUrl = Annotated[SecretStr, AfterValidator(check_url)]


class TlsSettings(ManagerSettings):
    """How the server proves who it is, and we to it. With these, nothing is sent without TLS."""

    ca: DataPath | None = Field(default=None, description="PEM file with who to trust; else whom the system trusts.")
    certificate: DataPath | None = Field(default=None, description="PEM file with our own certificate.")
    key: DataPath | None = Field(default=None, description="PEM file with its private key.")
    key_password: SecretStr | None = Field(default=None, description="What that key is encrypted with.")
    verify: bool = Field(default=True, description="False trusts anybody: for experiments alone.")


class PostgresSettings(ManagerSettings):
    """Where the server is and how long anything may take.

    A call takes no longer than ``pool_timeout``, twice ``connect_timeout`` (to ask an old connection, and to open a new
    one) and ``statement_timeout`` with a second on top, in which the server says that it has cancelled the statement.

    What a URL leaves out comes from libpq's environment variables (``PGPASSWORD``, ...) and password file, as with
    every client of PostgreSQL. Each access role that has a URL of its own has a pool of its own.
    """

    url: PostgresUrl = Field(description="postgresql://user:password@host:5432/database")
    password: SecretStr | None = Field(default=None, description="Takes the place of the one in 'url'.")
    read_only_url: PostgresUrl | None = Field(
        default=None, description="For the access role read_only; else 'url', with transactions that cannot write."
    )
    admin_url: PostgresUrl | None = Field(default=None, description="For the access role admin; else 'url'.")
    tls: TlsSettings | None = Field(
        default=None, description="Demand TLS, verified; without it, 'sslmode' in the URL decides."
    )
    application_name: str = Field(
        default="base04", min_length=1, max_length=63, description="What pg_stat_activity shows for our connections."
    )
    pool_size: int = Field(default=10, ge=1, le=1000, description="The most connections of one pool.")
    pool_timeout: Duration = Field(default=30.0, description="How long a call may wait for a free connection.")
    connect_timeout: Duration = Field(default=10.0, description="How long opening a connection may take.")
    statement_timeout: Duration = Field(
        default=30.0, le=86400, description="How long one statement, or one transaction, may run."
    )
    idle_timeout: Duration = Field(default=300.0, description="After how long an unused connection is closed.")
    ping_after: float = Field(
        default=5.0, ge=0, description="After how many seconds without use a connection is asked before it is used."
    )
    recycle: Duration = Field(default=3600.0, description="How old a connection may get.")
    retries: int = Field(
        default=4,
        ge=0,
        le=20,
        description="How often a transaction is tried again after a deadlock or a lost connection.",
    )
    migration_timeout: Duration = Field(default=60.0, description="How long to wait for another process that migrates.")
    max_value_bytes: int = Field(
        default=16 * 1024 * 1024, ge=1024, le=500_000_000, description="The longest string, bytes or JSON in one value."
    )
    prepared_statements: bool = Field(
        default=True,
        description="False for a PgBouncer that hands out connections by transaction and is older than 1.21.",
    )
