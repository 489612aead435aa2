"""The contracts of Base04: all that a plugin has to import.

The names here are what every plugin needs; each role has a module of its own (``base04_hookspecs.redis``, ...), and
``base04_hookspecs.host_hooks`` holds what a plugin can add beside managers.
"""

from base04_hookspecs.context import ANONYMOUS, Principal, RequestContext, current_request, grants, require_permission
from base04_hookspecs.health import HealthReport, HealthStatus, health_report
from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import AccessRole, Since, Use, hookimpl, hookspec
from base04_hookspecs.provider import Provider

__all__ = [
    "ANONYMOUS",
    "AccessRole",
    "HealthReport",
    "HealthStatus",
    "Manager",
    "Principal",
    "Provider",
    "RequestContext",
    "Since",
    "Use",
    "current_request",
    "grants",
    "health_report",
    "hookimpl",
    "hookspec",
    "require_permission",
]
