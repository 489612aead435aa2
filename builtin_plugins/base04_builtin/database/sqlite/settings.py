"""The settings of the provider ``sqlite``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from base04_hookspecs.settings import DataPath, ManagerSettings


class SqliteSettings(ManagerSettings):
    """Where the file is and how long anything may take. Times are in seconds."""

    path: DataPath = Path("base04.sqlite3")
    """The database file; it and its folder are made where missing, for the owner alone."""

    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    """FULL survives a power failure; NORMAL only the death of the process, and is several times faster."""

    busy_timeout: float = Field(default=5.0, ge=0, le=3600)
    """How long to wait for another process that writes."""

    readers: int = Field(default=4, ge=1, le=64)
    """The most connections that read at the same time."""

    statement_timeout: float = Field(default=30.0, gt=0, le=86400)
    """How long one statement, or one transaction, may run."""

    pool_timeout: float = Field(default=30.0, gt=0, le=3600)
    """How long a call may wait for its turn."""

    migration_timeout: float = Field(default=60.0, gt=0, le=3600)
    """How long to wait for another process that migrates."""

    max_value_bytes: int = Field(default=16 * 1024 * 1024, ge=1024, le=500_000_000)
    """The longest string, bytes or JSON in one value."""
