"""The provider ``outbox``: a folder in place of a mail server."""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from email import policy
from email.parser import BytesHeaderParser
from pathlib import Path

from base04_hookspecs import HealthReport, health_report
from base04_hookspecs.errors import ManagerUnavailable
from base04_hookspecs.settings import DataPath, ManagerSettings
from base04_mailer.contract import MailerManager, OutboxEntry
from base04_mailer.message import Address, compose


class OutboxSettings(ManagerSettings):
    """``folder`` is where messages are written, ``sender`` whom they are from."""

    folder: DataPath = Path("outbox")
    sender: Address = "base04@localhost"


class OutboxMailerManager(MailerManager):
    """Writes each message to a file of its own, whole or not at all, that only this user can read."""

    def __init__(self, settings: OutboxSettings) -> None:
        self._folder = settings.folder
        self._sender = settings.sender
        self._errors = 0

    async def start(self) -> None:
        """Make the folder, and remove what a process that died left half written."""
        await self._on_disk(lambda: _prepare(self._folder))

    async def health_check(self) -> HealthReport:
        """Report whether the folder can be written to."""
        writable = await asyncio.to_thread(os.access, self._folder, os.W_OK | os.X_OK)
        details = f"writing to {self._folder}" if writable else f"{self._folder} cannot be written to"
        return health_report("healthy" if writable else "unhealthy", details, errors=self._errors)

    async def send_mail(self, to: str, subject: str, text: str) -> str:
        """Write a message; it is on the disk when this returns."""
        message = compose(self._sender, to, subject, text)
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        await self._on_disk(lambda: _write(self._folder, name, bytes(message)))
        return str(message["Message-ID"])

    async def list_outbox(self) -> list[OutboxEntry]:
        """Return the messages in the folder, oldest first."""
        entries: list[OutboxEntry] = []
        await self._on_disk(lambda: entries.extend(_read(path) for path in sorted(self._folder.glob("*.eml"))))
        return entries

    async def _on_disk(self, work: Callable[[], None]) -> None:
        try:
            await asyncio.to_thread(work)
        except OSError as exc:
            self._errors += 1
            raise ManagerUnavailable(f"The outbox {self._folder} cannot be used: {exc.strerror}.") from exc


def _prepare(folder: Path) -> None:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for left_over in folder.glob(".*.part"):
        left_over.unlink(missing_ok=True)


def _write(folder: Path, name: str, content: bytes) -> None:
    part = folder / f".{name}.part"
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / f"{name}.eml")
    finally:
        part.unlink(missing_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read(path: Path) -> OutboxEntry:
    with path.open("rb") as file:
        headers = BytesHeaderParser(policy=policy.SMTP).parse(file)
    return {
        "message_id": str(headers["Message-ID"]),
        "to": str(headers["To"]),
        "subject": str(headers["Subject"]),
        "file": path.name,
        "at": path.stat().st_mtime,
    }
