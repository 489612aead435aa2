"""Mail for Base04: the role ``mailer``. What others need of it is its contract."""

from base04_mailer.contract import MailerManager, OutboxEntry

__all__ = ["MailerManager", "OutboxEntry"]
