"""What a manager says about its own health."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypedDict

HealthStatus = Literal["healthy", "unhealthy", "degraded"]


class HealthReport(TypedDict):
    """The answer of ``health_check``, with the keys of the specification.

    ``metrics`` holds at least ``connections`` and ``errors`` (counts) and ``response_time`` (seconds); a manager adds
    its own. ``dependencies`` maps role names to their status; the host fills in what a manager leaves out.
    """

    status: HealthStatus
    details: str
    metrics: dict[str, float]
    dependencies: dict[str, HealthStatus]


def health_report(
    status: HealthStatus = "healthy",
    details: str = "",
    *,
    connections: int = 0,
    errors: int = 0,
    response_time: float = 0.0,
    dependencies: Mapping[str, HealthStatus] | None = None,
    **metrics: float,
) -> HealthReport:
    """Build a complete report; ``response_time`` is in seconds, further metrics are plain numbers."""
    return {
        "status": status,
        "details": details or status,
        "metrics": {"connections": connections, "errors": errors, "response_time": response_time, **metrics},
        "dependencies": dict(dependencies or {}),
    }


def worst(*statuses: HealthStatus) -> HealthStatus:
    """Return the worst of the statuses: unhealthy before degraded before healthy; healthy when there is none."""
    for status in ("unhealthy", "degraded"):
        if status in statuses:
            return status
    return "healthy"
