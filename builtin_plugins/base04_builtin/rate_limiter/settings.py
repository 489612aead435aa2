"""The settings of the rate limiter."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.rate_limiter import RateLimit
from base04_hookspecs.settings import ManagerSettings

LimitType = Literal["ip", "user", "api_key", "action"]

LIMIT_TYPES: Final[tuple[LimitType, ...]] = ("ip", "user", "api_key", "action")
"""What can be limited, and banned."""

_DEFAULTS: Final[dict[LimitType, str | list[str]]] = {
    "ip": "600/minute",
    "user": "1200/minute",
    "api_key": "1200/minute",
    "action": [],
}


def _with_defaults(limits: Any) -> Any:
    """Keep the default limits of types that the settings do not mention."""
    return {**_DEFAULTS, **limits} if isinstance(limits, dict) else limits


def _readable(text: str) -> str:
    try:
        RateLimit.parse(text)
    except InvalidInput as error:
        raise ValueError(str(error)) from error
    return text


LimitText = Annotated[str, AfterValidator(_readable)]


class GcraRateLimiterSettings(ManagerSettings):
    """Settings of the provider ``gcra``."""

    limits: Annotated[dict[LimitType, LimitText | list[LimitText]], BeforeValidator(_with_defaults)] = Field(
        default_factory=dict,
        description="Limits by type (ip, user, api_key, action), such as '600/minute' or a list of them. "
        "An empty list lifts the default of a type.",
    )
    on_unavailable: Literal["open", "closed"] = Field(
        default="open",
        description="What happens to calls while nothing can be counted: open lets them pass, closed refuses them.",
    )

    def parsed(self, limit_type: LimitType) -> tuple[RateLimit, ...]:
        """Return the limits of a type, each once."""
        written = self.limits.get(limit_type, [])
        texts = [written] if isinstance(written, str) else written
        return tuple(dict.fromkeys(map(RateLimit.parse, texts)))
