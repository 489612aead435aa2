"""The handlers of the action pack."""

from __future__ import annotations

from typing import TypedDict

from base04_mailer.contract import MailerManager


class Sent(TypedDict):
    """What ``mailer.send`` returns."""

    message_id: str


async def send(to: str, subject: str, text: str, mailer: MailerManager) -> Sent:
    """Send a mail with whatever provides the role ``mailer``."""
    return {"message_id": await mailer.send_mail(to, subject, text)}
