"""The role ``mailer``: sending mail."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar, TypedDict

from base04_hookspecs import Manager
from base04_hookspecs.errors import NotSupported


class OutboxEntry(TypedDict):
    """A message that lies in an outbox. ``at`` is in seconds since the epoch."""

    message_id: str
    to: str
    subject: str
    file: str
    at: float


class MailerManager(Manager):
    """Sends mail.

    Capabilities: ``outbox`` (messages are kept where they can be looked at).
    """

    role: ClassVar[str] = "mailer"

    @abstractmethod
    async def send_mail(self, to: str, subject: str, text: str) -> str:
        """Send a plain text to one address and return its message id.

        Raises:
            InvalidInput: the address is none, or something would become a header of its own.
            ManagerUnavailable: it cannot be sent just now; it has not been.
            OutcomeUnknown: the connection broke when it may have been sent already.
        """

    async def list_outbox(self) -> list[OutboxEntry]:
        """Return the messages that lie in the outbox, oldest first.

        Raises:
            NotSupported: the provider keeps none.
        """
        raise NotSupported(f"{type(self).__name__} keeps no outbox.")
