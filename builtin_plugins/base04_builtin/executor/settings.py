"""The settings of the executor."""

from __future__ import annotations

from pydantic import Field

from base04_hookspecs.settings import ManagerSettings


class InlineExecutorSettings(ManagerSettings):
    """Settings of the provider ``inline``."""

    size: int = Field(default=8, ge=1, le=10_000, description="How many executions run at once.")
    waiting: int = Field(default=1000, ge=0, le=1_000_000, description="How many may wait; more are refused.")
