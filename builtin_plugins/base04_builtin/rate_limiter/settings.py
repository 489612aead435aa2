"""The settings of the rate limiter."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.rate_limiter import OnUnavailable, RateLimit
from base04_hookspecs.settings import Duration, ManagerSettings

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


class AutoBanSettings(ManagerSettings):
    """Ban who is refused too often."""

    violations: int = Field(ge=1, le=1_000_000, description="After how many refusals within the window.")
    window: Duration = Field(
        default=60.0, ge=0.1, le=31 * 86_400, description="How long refusals are counted, from the first on."
    )
    duration: Duration = Field(default=600.0, ge=0.1, le=366 * 86_400, description="How long the ban lasts.")
    types: list[LimitType] = Field(
        default=["ip"],
        min_length=1,
        description="Which types it may hit. Mind that many people can share an address.",
    )


class GcraRateLimiterSettings(ManagerSettings):
    """Settings of the provider ``gcra``."""

    limits: Annotated[dict[LimitType, LimitText | list[LimitText]], BeforeValidator(_with_defaults)] = Field(
        default_factory=dict,
        description="Limits by type (ip, user, api_key, action), such as '600/minute' or a list of them. "
        "An empty list lifts the default of a type.",
    )
    shadow: list[LimitType] = Field(
        default=[],
        description="Types whose limits are evaluated and reported, and never refuse.",
    )
    auto_ban: AutoBanSettings | None = Field(default=None, description="Ban who is refused too often; none by default.")
    on_unavailable: OnUnavailable = Field(
        default="open",
        description="What becomes of calls while nothing can be counted: open lets them pass, closed refuses them, "
        "local counts them in this process alone. A call may say otherwise. Bans that this process knows hold in any "
        "case.",
    )
    local_size: int = Field(
        default=100_000,
        ge=100,
        le=10_000_000,
        description="How many identifiers this process counts where it counts alone, of which each takes about half a "
        "kilobyte; those used least recently go first.",
    )
    local_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Which part of each limit a process lets through when it counts alone: 0.25 for four processes.",
    )
    ban_sync: Duration = Field(
        default=30.0,
        ge=0.1,
        le=3600,
        description="How often bans are read again from the database, besides when they are announced.",
    )
    bans_in_memory: int = Field(
        default=100_000,
        ge=1,
        le=10_000_000,
        description="How many bans each process holds to enforce them even when the counts are lost: the newest.",
    )

    def parsed(self, limit_type: LimitType) -> tuple[RateLimit, ...]:
        """Return the limits of a type, each once."""
        written = self.limits.get(limit_type, [])
        texts = [written] if isinstance(written, str) else written
        return tuple(dict.fromkeys(map(RateLimit.parse, texts)))
