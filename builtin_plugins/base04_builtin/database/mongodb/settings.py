"""The settings of the provider ``mongodb``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, Field, SecretStr

from base04_hookspecs.settings import Duration, ManagerSettings


def _url(url: SecretStr) -> SecretStr:
    if not url.get_secret_value().startswith(("mongodb://", "mongodb+srv://")):
        raise ValueError("write an address such as 'mongodb://user:password@host:27017/database'")
    return url


Url = Annotated[SecretStr, AfterValidator(_url)]


class MongoSettings(ManagerSettings):
    """Where the server is, and how long anything may take. Times are in seconds."""

    url: Url
    """Where ``read_write`` connects to, and every role that has no address of its own."""

    password: SecretStr | None = None
    """Takes the place of the one in ``url``."""

    database: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{1,63}$")
    """The database; without it the one that the address names, or else ``base04``."""

    read_only_url: Url | None = None
    """With a user who can only read. Without one, read-only views have ``find`` and ``count``, and nothing else."""

    admin_url: Url | None = None
    """With a user who may make collections and indexes, where the other one may not."""

    ca: Path | None = None
    """A file with the certificates to trust, for addresses with ``tls=true``."""

    single_document_atomicity: bool = False
    """Whether changes of several documents may be made one after the other where the server has no transactions."""

    pool_size: int = Field(default=20, ge=1, le=1000)
    """The most connections of each access role."""

    pool_timeout: Duration = 10.0
    """How long a call may wait for a connection."""

    connect_timeout: Duration = 5.0
    """How long it may take to find a server that can be used."""

    statement_timeout: Duration = 30.0
    """How long one call may take."""

    migration_timeout: Duration = 60.0
    """How long to wait for another process that migrates."""

    lease: Duration = 15.0
    """After how long without a sign of life another process may take a lock over."""

    max_value_bytes: int = Field(default=8 * 1024 * 1024, ge=1024, le=15 * 1024 * 1024)
    """The longest string, bytes or JSON in one value; a whole document may take 16 MiB."""

    def client_options(self) -> dict[str, Any]:
        """Return what pymongo is told beside the address; it has precedence over what the address says."""
        options: dict[str, Any] = {
            "appname": "base04",
            "tz_aware": True,
            "maxPoolSize": self.pool_size,
            "waitQueueTimeoutMS": _ms(self.pool_timeout),
            "connectTimeoutMS": _ms(self.connect_timeout),
            "serverSelectionTimeoutMS": _ms(self.connect_timeout),
            "socketTimeoutMS": _ms(self.statement_timeout),
            "w": "majority",
            "journal": True,
            "retryWrites": True,
            "retryReads": True,
        }
        return options | ({"tlsCAFile": str(self.ca)} if self.ca is not None else {})


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))
