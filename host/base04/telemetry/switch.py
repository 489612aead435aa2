"""Whether a host tells a collector what it does; nothing of OpenTelemetry is imported where it does not."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from base04.errors import HostError
from base04.settings import TelemetrySettings

if TYPE_CHECKING:
    from base04.telemetry.telemetry import Telemetry

INSTALL: Final = "pip install 'base04[otel]'"


def switched_on(settings: TelemetrySettings) -> bool:
    """Tell whether anything is to be sent; ``OTEL_SDK_DISABLED`` has the last word."""
    return settings.on and os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"


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
        raise HostError(
            f"Telemetry is switched on in the settings, and cannot be sent: {error}. Install what it needs: {INSTALL}."
        ) from error
    return Telemetry(settings)
