"""Whether a host tells a collector what it does; nothing of OpenTelemetry is imported where it does not."""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Final

from base04.errors import HostError
from base04.settings import TelemetrySettings

if TYPE_CHECKING:
    from base04.telemetry.telemetry import Telemetry

INSTALL: Final = "pip install 'base04[otel]'"

_LIBRARIES: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")


def switched_on(settings: TelemetrySettings) -> bool:
    """Tell whether anything is to be sent; ``OTEL_SDK_DISABLED`` has the last word."""
    return settings.on and os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"


def missing_library(settings: TelemetrySettings) -> str | None:
    """Return the name of a library that is needed and not there, None where all is well. Imports hardly anything."""
    wanted = _LIBRARIES if switched_on(settings) else ()
    return next((name for name in wanted if not _there(name)), None)


def refuse_missing_library(settings: TelemetrySettings) -> None:
    """Let settings pass that can be followed.

    Raises:
        HostError: a library is missing; the message has the command that installs it.
    """
    missing = missing_library(settings)
    if missing is not None:
        raise HostError(_cannot(f"{missing} is not installed"))


def _there(library: str) -> bool:
    try:
        return importlib.util.find_spec(library) is not None
    except (ImportError, ValueError):
        return False


def _cannot(reason: str) -> str:
    return f"Telemetry is switched on in the settings, and cannot be sent: {reason}. Install what it needs: {INSTALL}."


def telemetry_of(settings: TelemetrySettings) -> Telemetry | None:
    """Return what sends traces and logs, None where settings do not ask for it. Nothing is started.

    Raises:
        HostError: the libraries are missing; the message has the command that installs them.
    """
    if not switched_on(settings):
        return None
    try:
        from base04.telemetry.telemetry import Telemetry
    except ImportError as error:
        raise HostError(_cannot(str(error))) from error
    return Telemetry(settings)
