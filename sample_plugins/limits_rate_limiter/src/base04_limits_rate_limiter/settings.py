"""The settings of the provider ``moving_window``."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.rate_limiter import RateLimit
from base04_hookspecs.settings import ManagerSettings

LimitType = Literal["ip", "user", "api_key", "action"]
LIMIT_TYPES: Final[tuple[LimitType, ...]] = get_args(LimitType)

_DEFAULTS: Final[dict[str, list[str]]] = {
    "ip": ["600/minute"],
    "user": ["1200/minute"],
    "api_key": ["1200/minute"],
    "action": [],
}


def _as_lists(limits: Any) -> Any:
    if not isinstance(limits, dict):
        return limits
    written = {kind: [value] if isinstance(value, str) else value for kind, value in limits.items()}
    return {**_DEFAULTS, **written}


def _readable(text: str) -> str:
    try:
        RateLimit.parse(text)
    except InvalidInput as exc:
        raise ValueError(str(exc)) from exc
    return text


LimitText = Annotated[str, AfterValidator(_readable)]


class MovingWindowSettings(ManagerSettings):
    """``limits`` by type (ip, user, api_key, action): ``20/minute``, or a list; an empty one lifts a default."""

    limits: Annotated[dict[LimitType, list[LimitText]], BeforeValidator(_as_lists)] = Field(default_factory=dict)

    def parsed(self, limit_type: str) -> tuple[RateLimit, ...]:
        """Return the limits of a type, each once."""
        texts = next((texts for kind, texts in self.limits.items() if kind == limit_type), [])
        return tuple(dict.fromkeys(map(RateLimit.parse, texts)))
