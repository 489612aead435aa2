"""The settings of the provider ``signed``."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from base04_hookspecs.settings import Duration, ManagerSettings

Algorithm = Literal["HS256", "EdDSA", "Ed25519", "ES256", "RS256"]
"""How tokens are signed. ``Ed25519`` is the name that RFC 9864 gives to what most verifiers know as ``EdDSA``."""


class JWTSettings(ManagerSettings):
    """Who issues tokens, for whom, how they are signed, and for how long they are good. Times are in seconds.

    A token is never accepted longer than the present settings allow, whatever it says itself: shorter lives take
    effect at once.

    * ``algorithm``: another one than that of the present key makes a new key at the start; tokens signed before stay
      good. ``rotate_every`` makes one by itself at that age.
    * ``rotation_delay`` is how long a new key is published before it signs. ``key_overlap`` is how long an old one
      verifies after it has signed its last token; without it until that token has ended.
    * ``refresh_ttl`` begins anew with each refresh, ``family_ttl`` does not: it is how long somebody can go on
      refreshing after one login. None is without end.
    * ``retry_window`` is how long a refresh may be repeated, ``leeway`` the difference of clocks that is borne.
    * ``revocation_max_age`` is the most by which a revocation by another process may be seen late; 0 asks the database
      for each token. ``heartbeat_interval`` is how often the way of such news is tried out. ``on_unknown`` says what
      becomes of a token where neither the news nor the database can tell.
    * ``cache_size`` is how many tokens are remembered as verified.
    """

    issuer: str = Field(default="base04", min_length=1, max_length=255)
    audience: str = Field(default="base04", min_length=1, max_length=255)
    client_id: str | None = Field(default=None, min_length=1, max_length=255)
    algorithm: Algorithm = "HS256"
    rsa_bits: Literal[2048, 3072, 4096] = 2048
    rotate_every: Duration | None = Field(default=None, ge=3600)
    rotation_delay: float = Field(default=60.0, ge=0, le=24 * 3600, allow_inf_nan=False)
    key_overlap: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    access_ttl: int = Field(default=15 * 60, ge=1, le=24 * 3600)
    refresh_ttl: int = Field(default=30 * 24 * 3600, ge=1, le=366 * 24 * 3600)
    family_ttl: int | None = Field(default=365 * 24 * 3600, ge=1, le=10 * 366 * 24 * 3600)
    retry_window: float = Field(default=10.0, ge=0, le=60, allow_inf_nan=False)
    leeway: float = Field(default=5.0, ge=0, le=60, allow_inf_nan=False)
    revocation_max_age: float = Field(default=1.0, ge=0, le=60, allow_inf_nan=False)
    heartbeat_interval: float = Field(default=0.25, gt=0, le=60, allow_inf_nan=False)
    on_unknown: Literal["refuse", "accept"] = "refuse"
    cache_size: int = Field(default=4096, ge=0, le=1_000_000)
    sweep_interval: float = Field(default=600.0, gt=0, le=24 * 3600, allow_inf_nan=False)

    @property
    def longest_life(self) -> float:
        """How long the longest-lived token is accepted after it was signed."""
        return max(self.access_ttl, self.refresh_ttl) + self.leeway + 1
