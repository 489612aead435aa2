"""The provider ``smtp`` against a real server."""

from __future__ import annotations

import asyncio
import email
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import policy
from pathlib import Path
from typing import Any

import pytest
from base04_mailer.smtp import SmtpMailerManager, SmtpSettings
from mail_server import MailServer, certificate
from pydantic import ValidationError

from base04_hookspecs.errors import InvalidInput, ManagerUnavailable, NotSupported, OutcomeUnknown


@asynccontextmanager
async def mailer(port: int, **settings: Any) -> AsyncIterator[SmtpMailerManager]:
    given = {"host": "localhost", "sender": "base04@example.org", "security": "none", **settings}
    manager = SmtpMailerManager(SmtpSettings.model_validate({"port": port, **given}))
    await manager.start()
    try:
        yield manager
    finally:
        await manager.stop()


async def test_message_arrives_as_it_was_written() -> None:
    async with MailServer().running() as server, mailer(server.port) as manager:
        text = "Grüße,\n.\n..dots stay\nAda"
        message_id = await manager.send_mail("bob@example.org", "Übung", text)
    (received,) = server.messages
    assert (received.sender, received.recipients) == ("base04@example.org", ["bob@example.org"])
    message = email.message_from_bytes(received.content.replace(b"\r\n..", b"\r\n."), policy=policy.default)
    assert message["Message-ID"] == message_id
    assert (message["From"], message["To"], message["Subject"]) == ("base04@example.org", "bob@example.org", "Übung")
    assert message["Date"] is not None
    assert message.get_content().splitlines() == text.splitlines()


async def test_starttls_encrypts_before_the_password_is_sent(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    login = {"username": "ada", "password": "the secret"}
    async with (
        MailServer(pem).running() as server,
        mailer(server.port, security="starttls", ca_file=pem, **login) as manager,
    ):
        await manager.send_mail("bob@example.org", "Hello", "text")
    (received,) = server.messages
    assert (received.encrypted, received.login) == (True, ("ada", "the secret"))
    verbs = [command.split()[0].upper() for command in server.commands]
    assert verbs.index("STARTTLS") < verbs.index("AUTH")


async def test_tls_from_the_beginning(tmp_path: Path) -> None:
    pem = certificate(tmp_path)
    async with (
        MailServer(pem).running(encrypted=True) as server,
        mailer(server.port, security="tls", ca_file=pem) as manager,
    ):
        await manager.send_mail("bob@example.org", "Hello", "text")
    assert [received.encrypted for received in server.messages] == [True]


async def test_server_without_starttls_gets_nothing() -> None:
    async with MailServer().running() as server, mailer(server.port, security="starttls") as manager:
        with pytest.raises(ManagerUnavailable, match="STARTTLS"):
            await manager.send_mail("bob@example.org", "Hello", "text")
    assert server.messages == []
    assert not any(command.startswith("mail") for command in server.commands)


async def test_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    async with (
        MailServer(certificate(tmp_path)).running() as server,
        mailer(server.port, security="starttls") as manager,
    ):
        with pytest.raises(ManagerUnavailable, match="certificate"):
            await manager.send_mail("bob@example.org", "Hello", "text")
    assert server.messages == []


@pytest.mark.parametrize(
    ("replies", "error"),
    [
        ({"MAIL": "451 not now"}, ManagerUnavailable),
        ({"RCPT": "550 nobody here"}, InvalidInput),
        ({"RCPT": "450 later"}, ManagerUnavailable),
        ({"DATA": "554 no"}, InvalidInput),
        ({"DATA": "451 not now"}, ManagerUnavailable),
        ({"CONTENT": "552 too large"}, InvalidInput),
        ({"CONTENT": "452 full"}, ManagerUnavailable),
        ({"CONTENT": ""}, OutcomeUnknown),
        ({"MAIL": ""}, ManagerUnavailable),
        ({"EHLO": "", "HELO": ""}, ManagerUnavailable),
    ],
)
async def test_what_the_server_does_not_take_is_told_apart(replies: dict[str, str], error: type[Exception]) -> None:
    async with MailServer(replies=replies).running() as server, mailer(server.port) as manager:
        with pytest.raises(error):
            await manager.send_mail("bob@example.org", "Hello", "text")
        expected = 0 if error is InvalidInput else 1
        server.replies.clear()
        await manager.send_mail("bob@example.org", "Hello", "text")
        report = await manager.health_check()
        assert (report["status"], report["metrics"]["errors"]) == ("healthy", expected)
    assert len(server.messages) == 1


@pytest.mark.parametrize("goodbye", ["", "500 what?"])
async def test_message_is_sent_however_the_goodbye_goes(goodbye: str) -> None:
    async with MailServer(replies={"QUIT": goodbye}).running() as server, mailer(server.port) as manager:
        assert await manager.send_mail("bob@example.org", "Hello", "text")
    assert len(server.messages) == 1


async def test_wrong_password_is_not_repeated_in_the_error() -> None:
    async with (
        MailServer(replies={"AUTH": "535 no"}).running() as server,
        mailer(server.port, username="ada", password="the secret") as manager,
    ):
        with pytest.raises(ManagerUnavailable, match="user name and password") as caught:
            await manager.send_mail("bob@example.org", "Hello", "text")
        assert "the secret" not in str(caught.value)
        assert (await manager.health_check())["status"] == "unhealthy"


async def test_server_that_is_away_or_silent_is_unavailable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        async with mailer(silent.getsockname()[1], host="127.0.0.1", timeout=0.05) as manager:
            with pytest.raises(ManagerUnavailable, match="cannot be reached"):
                await manager.send_mail("bob@example.org", "Hello", "text")
        port = silent.getsockname()[1]
    async with mailer(port, host="127.0.0.1") as manager:
        with pytest.raises(ManagerUnavailable, match="cannot be reached"):
            await manager.send_mail("bob@example.org", "Hello", "text")
        assert (await manager.health_check())["status"] == "unhealthy"


@pytest.mark.parametrize(
    ("to", "subject", "pointer"),
    [
        ("bob@example.org\r\nBcc: eve@example.org", "Hello", "/to"),
        ("bob@example.org\n", "Hello", "/to"),
        ("bob@example.org, eve@example.org", "Hello", "/to"),
        ("Bob <bob@example.org>", "Hello", "/to"),
        ("bob@example.org> SIZE=1", "Hello", "/to"),
        ("", "Hello", "/to"),
        ("bob@example.org", "Hello\r\nBcc: eve@example.org", "/subject"),
        ("bob@example.org", "Hello\rX: y", "/subject"),
        ("bob@example.org", "x" * 501, "/subject"),
    ],
)
async def test_headers_cannot_be_injected(to: str, subject: str, pointer: str) -> None:
    async with MailServer().running() as server, mailer(server.port) as manager:
        with pytest.raises(InvalidInput) as caught:
            await manager.send_mail(to, subject, "text")
    assert [fault.pointer for fault in caught.value.faults] == [pointer]
    assert server.commands == []


async def test_text_cannot_end_the_message_early() -> None:
    async with MailServer().running() as server, mailer(server.port) as manager:
        await manager.send_mail("bob@example.org", "Hello", "first\r\n.\r\nMAIL FROM:<eve@example.org>\r\n")
    assert len(server.messages) == 1
    assert b"eve@example.org" in server.messages[0].content


async def test_many_messages_at_once_all_arrive() -> None:
    async with MailServer().running() as server, mailer(server.port, connections=3) as manager:
        sending = (manager.send_mail("bob@example.org", f"Number {number}", "text") for number in range(20))
        ids = await asyncio.gather(*sending)
    assert len(set(ids)) == 20
    assert len(server.messages) == 20


async def test_mailer_that_does_not_run_is_unavailable_and_has_no_outbox() -> None:
    async with mailer(1) as manager:
        pass
    with pytest.raises(ManagerUnavailable, match="not running"):
        await manager.send_mail("bob@example.org", "Hello", "text")
    with pytest.raises(NotSupported, match="outbox"):
        await manager.list_outbox()
    await manager.stop()


@pytest.mark.parametrize(
    "settings",
    [
        {"username": "ada"},
        {"password": "x"},
        {"security": "none", "username": "ada", "password": "x"},
        {"security": "ssl"},
        {"sender": "Ada <ada@example.org>"},
        {"port": 0},
        {"timeout": 0},
        {"prot": 25},
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        SmtpSettings.model_validate({"host": "mail.example.org", "sender": "base04@example.org", **settings})


def test_password_is_masked() -> None:
    settings = SmtpSettings.model_validate(
        {"host": "mail.example.org", "sender": "base04@example.org", "username": "ada", "password": "the secret"}
    )
    assert "the secret" not in repr(settings)
