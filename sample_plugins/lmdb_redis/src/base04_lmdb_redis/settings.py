"""What can be set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import ByteSize, Field

from base04_hookspecs.settings import DataPath, Duration, ManagerSettings


class LmdbRedisSettings(ManagerSettings):
    """Settings of the provider ``lmdb``."""

    path: DataPath = Field(
        default=Path("lmdb"),
        description="The folder of the store; processes with the same one share it. It must be on a local disk.",
    )
    size: Annotated[ByteSize, Field(ge=2**20)] = Field(
        default=ByteSize(256 * 2**20),
        description="How much may be in it before writes are refused, such as 256MiB.",
    )
    durable: bool = Field(
        default=False,
        description="Whether a write is on the disk when it is answered. Otherwise the store outlives killed "
        "processes and restarts of hosts, and is empty after a restart of the machine.",
    )
    timeout: Duration = Field(
        default=5.0, description="How long a write may wait for the other processes before it fails."
    )
    messages_kept: Duration = Field(
        default=30.0, description="How long messages are kept for processes that are slow to fetch them."
    )
    queue_size: int = Field(
        default=1000, ge=1, description="How many messages may wait for one subscriber before the oldest is dropped."
    )
