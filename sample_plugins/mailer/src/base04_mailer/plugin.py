"""What the host imports to know of the role and its providers."""

from __future__ import annotations

from collections.abc import Iterable

from base04_hookspecs import Provider, hookimpl


@hookimpl
def extra_providers() -> Iterable[Provider]:
    """Offer the role ``mailer``, which Base04 does not know."""
    yield Provider(
        "outbox",
        "base04_mailer.outbox:OutboxMailerManager",
        default=True,
        role="mailer",
        capabilities=frozenset({"outbox"}),
        summary="writes each message to a file and sends nothing",
    )
    yield Provider(
        "smtp",
        "base04_mailer.smtp:SmtpMailerManager",
        role="mailer",
        summary="hands messages to an SMTP server",
    )
