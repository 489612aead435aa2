"""The settings of the services manager."""

from __future__ import annotations

from pydantic import Field

from base04_hookspecs.settings import ManagerSettings


class InProcessServicesSettings(ManagerSettings):
    """Settings of the provider ``inprocess``; all times are in seconds."""

    start_timeout: float = Field(default=60.0, gt=0, description="How long a service may take to start.")
    stop_timeout: float = Field(default=10.0, gt=0, description="How long a service may take to stop.")
    health_timeout: float = Field(default=5.0, gt=0, description="How long a service may take to report its health.")
