"""The provider ``smtp``: messages handed to a mail server (RFC 5321)."""

from __future__ import annotations

import asyncio
import smtplib
import ssl
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from email.message import EmailMessage
from pathlib import Path
from typing import Annotated, Final, Literal, Self, TypeVar

from pydantic import Field, SecretStr, model_validator

from base04_hookspecs import HealthReport, health_report
from base04_hookspecs.errors import InvalidInput, ManagerUnavailable, OutcomeUnknown
from base04_hookspecs.settings import Duration, ManagerSettings
from base04_mailer.contract import MailerManager
from base04_mailer.message import Address, compose

T = TypeVar("T")

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


class SmtpSettings(ManagerSettings):
    """Where the mail server is and how to talk to it.

    ``security`` is ``starttls`` (encrypt after connecting, or fail), ``tls`` (encrypt from the beginning, port 465
    as a rule) or ``none``. ``ca_file`` holds the certificates to trust in place of the system's. ``timeout`` bounds
    each step on the network, ``connections`` how many there are at once.
    """

    host: str
    sender: Address
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    security: Literal["starttls", "tls", "none"] = "starttls"
    ca_file: Path | None = None
    username: str | None = None
    password: SecretStr | None = None
    timeout: Duration = 10.0
    connections: Annotated[int, Field(ge=1, le=64)] = 4

    @model_validator(mode="after")
    def _check_login(self) -> Self:
        if (self.username is None) != (self.password is None):
            raise ValueError("'username' and 'password' belong together: set both or neither")
        if self.password is not None and self.security == "none" and self.host not in _LOOPBACK:
            raise ValueError("a password is not sent unencrypted: set 'security' to 'starttls' or 'tls'")
        return self


class SmtpMailerManager(MailerManager):
    """Sends each message over a connection of its own, in a few worker threads."""

    def __init__(self, settings: SmtpSettings) -> None:
        self._settings = settings
        self._threads: ThreadPoolExecutor | None = None
        self._errors = 0
        self._busy = 0

    async def start(self) -> None:
        """Prepare to send. The server need not be up yet: mail is seldom what a host cannot start without."""
        self._threads = ThreadPoolExecutor(self._settings.connections, thread_name_prefix="smtp")

    async def stop(self) -> None:
        """Wait for what is being sent; what has not begun is not sent."""
        threads, self._threads = self._threads, None
        if threads is not None:
            await asyncio.to_thread(threads.shutdown, wait=True, cancel_futures=True)

    async def health_check(self) -> HealthReport:
        """Connect, encrypt, log in, and ask whether the server is there."""
        began = time.monotonic()
        try:
            await self._in_thread(self._probe)
        except ManagerUnavailable as exc:
            return health_report("unhealthy", str(exc), connections=self._busy, errors=self._errors)
        return health_report(
            details=f"{self._settings.host}:{self._settings.port} answers",
            connections=self._busy,
            errors=self._errors,
            response_time=time.monotonic() - began,
        )

    async def send_mail(self, to: str, subject: str, text: str) -> str:
        """Hand a message to the server; it is the server's responsibility when this returns."""
        message = compose(self._settings.sender, to, subject, text)
        await self._in_thread(lambda: self._deliver(message, to))
        return str(message["Message-ID"])

    async def _in_thread(self, work: Callable[[], T]) -> T:
        if self._threads is None:
            raise ManagerUnavailable("The mailer is not running.")
        self._busy += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, work)
        except (ManagerUnavailable, OutcomeUnknown):
            self._errors += 1
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise ManagerUnavailable("The mailer stopped before this could be done.") from None
        finally:
            self._busy -= 1

    def _probe(self) -> None:
        with self._connection() as server, self._unavailable():
            _expect((250,), *server.noop())

    def _deliver(self, message: EmailMessage, to: str) -> None:
        with self._connection() as server:
            with self._unavailable():
                _expect((250,), *server.mail(self._settings.sender))
                code, reply = server.rcpt(to)
                if code >= 500:
                    raise InvalidInput(f"The mail server refuses the address {to!r}: {code} {_readable(reply)}")
                _expect((250, 251, 252), code, reply)
            self._hand_over(server, bytes(message))

    def _hand_over(self, server: smtplib.SMTP, content: bytes) -> None:
        try:
            code, reply = server.data(content)
        except smtplib.SMTPDataError as exc:
            raise self._refusal(exc.smtp_code, exc.smtp_error) from exc
        except (OSError, smtplib.SMTPException) as exc:
            raise OutcomeUnknown(
                "The connection to the mail server broke while a message was handed over: it may have been sent."
            ) from exc
        if code != 250:
            raise self._refusal(code, reply)

    def _refusal(self, code: int, reply: bytes | str) -> InvalidInput | ManagerUnavailable:
        text = f"The mail server refuses the message: {code} {_readable(reply)}"
        return InvalidInput(text) if code >= 500 else ManagerUnavailable(text, retry_after=60)

    @contextmanager
    def _connection(self) -> Iterator[smtplib.SMTP]:
        with self._unavailable():
            server = self._connect()
        try:
            yield server
        finally:
            with suppress(OSError, smtplib.SMTPException):  # what was done is done, however the goodbye goes
                server.quit()
            server.close()

    def _connect(self) -> smtplib.SMTP:
        settings = self._settings
        name = settings.sender.rpartition("@")[2]  # smtplib would look up its own name in the DNS
        if settings.security == "tls":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                settings.host, settings.port, name, timeout=settings.timeout, context=self._context()
            )
        else:
            server = smtplib.SMTP(settings.host, settings.port, name, timeout=settings.timeout)
        try:
            if settings.security == "starttls":
                server.starttls(context=self._context())
            if settings.username is not None and settings.password is not None:
                server.login(settings.username, settings.password.get_secret_value())
            else:
                server.ehlo_or_helo_if_needed()
        except BaseException:
            server.close()
            raise
        return server

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._settings.ca_file)

    @contextmanager
    def _unavailable(self) -> Iterator[None]:
        """Tell what went wrong before anything was handed over. The password is in none of it."""
        where = f"The mail server {self._settings.host}:{self._settings.port}"
        try:
            yield
        except smtplib.SMTPAuthenticationError as exc:
            raise ManagerUnavailable(f"{where} does not accept the user name and password.", retry_after=60) from exc
        except smtplib.SMTPNotSupportedError as exc:
            raise ManagerUnavailable(f"{where} cannot do what the settings ask for: {exc}", retry_after=60) from exc
        except smtplib.SMTPResponseException as exc:
            raise ManagerUnavailable(f"{where} answers {exc.smtp_code} {_readable(exc.smtp_error)}") from exc
        except (OSError, smtplib.SMTPException) as exc:
            raise ManagerUnavailable(f"{where} cannot be reached: {exc}") from exc


def _expect(wanted: tuple[int, ...], code: int, reply: bytes) -> None:
    if code not in wanted:
        raise smtplib.SMTPResponseException(code, reply)


def _readable(reply: bytes | str) -> str:
    text = reply.decode("ascii", "replace") if isinstance(reply, bytes) else reply
    return " ".join(text.split())[:200]
