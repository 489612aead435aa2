"""What can be said of telemetry without starting anything."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import closing
from socket import create_connection
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from base04.settings import HostSettings
from base04.settings_source import dotted
from base04.telemetry.switch import INSTALL, missing_library, switched_on

_PORTS: Final = {"http": 80, "https": 443}
_USUAL: Final = "http://localhost:4318"

Told = tuple[Literal["ok", "warning", "error"], str, str]
"""``ok``, ``warning`` or ``error``; what it is about; and what to do where it is not well."""


def check(settings: HostSettings, timeout_s: float) -> Iterator[Told]:
    """Tell whether telemetry can be sent, where it is on: the libraries, the endpoints, what lies open in settings."""
    telemetry = settings.telemetry
    yield from _open_headers(settings)
    if not switched_on(telemetry):
        return
    missing = missing_library(telemetry)
    if missing is not None:
        yield "error", "telemetry", f"It is switched on, and {missing} is not installed: {INSTALL}."
    if os.environ.get("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf") != "http/protobuf":
        yield "warning", "OTEL_EXPORTER_OTLP_PROTOCOL", "Telemetry is sent as http/protobuf, whatever this says."
    signals = [name for name, wanted in (("traces", telemetry.traces), ("logs", telemetry.logs)) if wanted]
    for endpoint in dict.fromkeys(_endpoint(telemetry.endpoint, signal, os.environ) for signal in signals):
        yield _reached(endpoint, timeout_s)


def _open_headers(settings: HostSettings) -> Iterator[Told]:
    document = settings.document
    written = document.values.get("telemetry", {})
    headers: Any = written.get("headers") if isinstance(written, Mapping) else None
    for name, value in (headers or {}).items():
        if value and value not in document.hidden:
            key = dotted(("telemetry", "headers", str(name)))
            yield "warning", key, "A secret may stand in the settings themselves: write ${env:NAME} in its place."


def _endpoint(base: str | None, signal: str, environ: Mapping[str, str]) -> str:
    """Return where a signal goes to, as the exporter finds it."""
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"
    return base or environ.get(own) or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT") or _USUAL


def _reached(endpoint: str, timeout_s: float) -> Told:
    """Connect to a collector; nothing is sent."""
    try:
        parts = urlsplit(endpoint)
        host, port = parts.hostname, parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        host, port = None, None
    if not host or port is None:
        return "error", "telemetry", "The endpoint is no address such as http://collector:4318."
    try:
        with closing(create_connection((host, port), timeout=timeout_s)):
            return "ok", "telemetry", f"{host}:{port} can be reached."
    except OSError as error:
        return "error", "telemetry", f"{host}:{port} cannot be reached: {error.strerror or error}."
