"""The settings of the provider ``signed``."""

from __future__ import annotations

from pydantic import Field

from base04_hookspecs.settings import ManagerSettings


class JWTSettings(ManagerSettings):
    """Who issues tokens, for whom, and for how long. Times are in seconds.

    A token is never accepted longer than the present settings allow, whatever it says itself: shorter lives take
    effect at once. ``retry_window`` is how long a refresh may be repeated. ``leeway`` is the difference of clocks that
    is borne. ``revocation_max_age`` is the most by which a revocation by another process may be seen late where no
    message about it arrives; what this process revokes is refused at once.
    """

    issuer: str = Field(default="base04", min_length=1, max_length=255)
    audience: str = Field(default="base04", min_length=1, max_length=255)
    access_ttl: int = Field(default=15 * 60, ge=1, le=24 * 3600)
    refresh_ttl: int = Field(default=30 * 24 * 3600, ge=1, le=366 * 24 * 3600)
    retry_window: float = Field(default=10.0, ge=0, le=60, allow_inf_nan=False)
    leeway: float = Field(default=5.0, ge=0, le=60, allow_inf_nan=False)
    revocation_max_age: float = Field(default=1.0, ge=0, le=60, allow_inf_nan=False)
    sweep_interval: float = Field(default=600.0, gt=0, le=24 * 3600, allow_inf_nan=False)
