"""The tracers that plugins ask OpenTelemetry for: they trace with the host that runs, and with nothing otherwise.

OpenTelemetry takes one provider for the life of a process; hosts start and stop.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from opentelemetry import trace
from opentelemetry.trace import NoOpTracerProvider, Span, Tracer, TracerProvider


class HostTracers(TracerProvider):
    """Gives tracers that use the provider of the host that started last."""

    def __init__(self) -> None:
        self.provider: TracerProvider = NoOpTracerProvider()

    def get_tracer(
        self,
        instrumenting_module_name: str,
        instrumenting_library_version: str | None = None,
        schema_url: str | None = None,
        attributes: Any = None,
    ) -> Tracer:
        """Return a tracer that goes on through starts and stops."""
        return _HostTracer(self, (instrumenting_module_name, instrumenting_library_version, schema_url, attributes))


class _HostTracer(Tracer):
    def __init__(self, tracers: HostTracers, scope: tuple[Any, ...]) -> None:
        self._tracers, self._scope = tracers, scope
        self._provider: TracerProvider | None = None
        self._tracer: Tracer

    def _now(self) -> Tracer:
        provider = self._tracers.provider
        if provider is not self._provider:
            self._tracer, self._provider = provider.get_tracer(*self._scope), provider
        return self._tracer

    def start_span(self, *args: Any, **options: Any) -> Span:
        return self._now().start_span(*args, **options)

    @contextmanager
    def start_as_current_span(self, *args: Any, **options: Any) -> Iterator[Span]:  # type: ignore[override]  # of theirs
        with self._now().start_as_current_span(*args, **options) as span:
            yield span


def lend(provider: TracerProvider) -> None:
    """Let plugins trace with a provider, unless the program has set one of its own."""
    present = trace.get_tracer_provider()
    if isinstance(present, trace.ProxyTracerProvider):
        present = HostTracers()
        trace.set_tracer_provider(present)
    if isinstance(present, HostTracers):
        present.provider = provider


def take_back(provider: TracerProvider) -> None:
    """Let plugins trace with nothing, unless another host has started meanwhile."""
    present = trace.get_tracer_provider()
    if isinstance(present, HostTracers) and present.provider is provider:
        present.provider = NoOpTracerProvider()
