"""What can be set."""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Final

from pydantic import AfterValidator, Field, HttpUrl, SecretStr

from base04_hookspecs.settings import Duration, ManagerSettings

_PREFIX: Final = "whsec_"
_SHORTEST, _LONGEST = 24, 64


def key_of(secret: str) -> bytes:
    """Return the key that a secret of the Standard Webhooks form stands for.

    Raises:
        ValueError: it has another form; the message does not hold it.
    """
    try:
        key = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(_PREFIX) or not _SHORTEST <= len(key) <= _LONGEST:
        raise ValueError(
            f"the secret is not '{_PREFIX}' and {_SHORTEST} to {_LONGEST} random bytes in base64: "
            "make one with `base04 webhooks secret`"
        )
    return key


def _checked(secret: SecretStr) -> SecretStr:
    key_of(secret.get_secret_value())
    return secret


Secret = Annotated[SecretStr, AfterValidator(_checked)]


class EndpointSettings(ManagerSettings):
    """Where events go, and which."""

    url: HttpUrl
    secret: Secret
    events: tuple[str, ...] = Field(default=("*",), min_length=1)
    timeout: Duration = 10.0


class WebhooksSettings(ManagerSettings):
    """Settings of the provider ``outbox``."""

    endpoints: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,49}$")], EndpointSettings] = Field(
        default={}, description="The endpoints by name: url, secret, events (patterns such as audit.*), timeout."
    )
    attempts: int = Field(default=12, ge=1, description="How often a delivery is tried before it is given up.")
    pause: Duration = Field(default=1.0, description="The pause after the first failure; it doubles with each.")
    longest_pause: Duration = Field(default=3600.0, description="The longest pause.")
    parallel: int = Field(default=4, ge=1, description="How many deliveries to one endpoint are under way at once.")
    queue_size: int = Field(
        default=10_000, ge=1, description="How many events wait in memory while the database is away."
    )
    drain_timeout: Duration = Field(
        default=5.0, description="How long stopping waits for deliveries that are under way, and to write the rest."
    )
    keep: Duration = Field(default=30 * 86400.0, description="How long what was given up is kept.")
