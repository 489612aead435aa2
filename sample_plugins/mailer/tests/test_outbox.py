"""The provider ``outbox``."""

from __future__ import annotations

import asyncio
import email
import stat
from email import policy
from pathlib import Path

import pytest
from base04_mailer.outbox import OutboxMailerManager, OutboxSettings

from base04_hookspecs.errors import InvalidInput, ManagerUnavailable


async def started(folder: Path) -> OutboxMailerManager:
    manager = OutboxMailerManager(OutboxSettings(folder=folder))
    await manager.start()
    return manager


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def test_relative_folder_lies_in_the_data_folder(tmp_path: Path) -> None:
    settings = OutboxSettings.model_validate({}, context={"data_dir": tmp_path})
    assert settings.folder == tmp_path / "outbox"


async def test_message_is_a_file_that_only_its_user_can_read(tmp_path: Path) -> None:
    manager = await started(tmp_path / "outbox")
    message_id = await manager.send_mail("bob@example.org", "Übung", "Grüße\n")
    (path,) = (tmp_path / "outbox").iterdir()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    message = email.message_from_bytes(path.read_bytes(), policy=policy.default)
    assert (message["Message-ID"], message["To"], message["Subject"]) == (message_id, "bob@example.org", "Übung")
    assert message.get_content().splitlines() == ["Grüße"]


async def test_outbox_lists_messages_in_order(tmp_path: Path) -> None:
    manager = await started(tmp_path)
    assert await manager.list_outbox() == []
    ids = [await manager.send_mail("bob@example.org", f"Number {number}", "text") for number in range(5)]
    entries = await manager.list_outbox()
    assert [entry["message_id"] for entry in entries] == ids
    assert [entry["subject"] for entry in entries] == [f"Number {number}" for number in range(5)]
    assert {entry["to"] for entry in entries} == {"bob@example.org"}
    assert all((tmp_path / entry["file"]).exists() for entry in entries)


async def test_messages_written_at_once_are_all_kept(tmp_path: Path) -> None:
    manager = await started(tmp_path)
    ids = await asyncio.gather(*(manager.send_mail("bob@example.org", "Hello", "text") for _ in range(20)))
    assert {entry["message_id"] for entry in await manager.list_outbox()} == set(ids)


async def test_messages_outlive_the_manager_and_half_written_ones_do_not(tmp_path: Path) -> None:
    manager = await started(tmp_path)
    await manager.send_mail("bob@example.org", "Hello", "text")
    await manager.stop()
    (tmp_path / ".1-abc.part").write_bytes(b"From: nob")
    again = await started(tmp_path)
    assert [entry["subject"] for entry in await again.list_outbox()] == ["Hello"]
    assert [name for name in names(tmp_path) if name.startswith(".")] == []


@pytest.mark.parametrize(
    ("to", "subject", "text"),
    [
        ("bob@example.org\r\nBcc: eve@example.org", "Hello", "text"),
        ("bob@example.org", "Hello\r\nBcc: eve@example.org", "text"),
        ("bob@example.org", "Hello", "half a pair \ud800"),
        ("bob@example.org", "Hello", "\0"),
    ],
)
async def test_message_that_cannot_be_is_not_written(tmp_path: Path, to: str, subject: str, text: str) -> None:
    manager = await started(tmp_path)
    with pytest.raises(InvalidInput):
        await manager.send_mail(to, subject, text)
    assert names(tmp_path) == []


async def test_every_fault_is_told(tmp_path: Path) -> None:
    manager = await started(tmp_path)
    with pytest.raises(InvalidInput) as caught:
        await manager.send_mail("nobody", "a\nb", "\0")
    assert [fault.pointer for fault in caught.value.faults] == ["/to", "/subject", "/text"]


async def test_folder_that_is_gone_is_unavailable_and_unhealthy(tmp_path: Path) -> None:
    folder = tmp_path / "outbox"
    manager = await started(folder)
    assert (await manager.health_check())["status"] == "healthy"
    folder.rmdir()
    with pytest.raises(ManagerUnavailable, match="outbox"):
        await manager.send_mail("bob@example.org", "Hello", "text")
    report = await manager.health_check()
    assert (report["status"], report["metrics"]["errors"]) == ("unhealthy", 1)
    await manager.start()
    assert await manager.send_mail("bob@example.org", "Hello", "text")
