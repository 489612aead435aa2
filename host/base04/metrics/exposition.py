"""The counts, and what managers report of themselves, in the form that Prometheus reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import structlog
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
    SummaryMetricFamily,
)
from prometheus_client.registry import Collector

from base04.metrics.counts import BUCKETS_S, Durations
from base04.metrics.plugin_collectors import collected

if TYPE_CHECKING:
    from base04.app_manager import AppManager
    from base04.generation import Generation

_STATUS: Final = {"healthy": 1.0, "degraded": 0.5, "unhealthy": 0.0}

_log = structlog.get_logger()


class HostCollector(Collector):
    """Reads everything at the moment when it is asked for; nothing is kept up to date in between."""

    def __init__(self, app: AppManager, generation: Generation) -> None:
        self._app, self._generation = app, generation

    def collect(self) -> Iterable[Metric]:
        """Return the metrics of this moment."""
        counts = self._app.counts
        requests = {(route, method, str(status)): found for (route, method, status), found in counts.requests.items()}
        yield _histogram("base04_http_request", "Answers over HTTP.", ("route", "method", "status"), requests.items())
        yield _histogram("base04_action", "Runs of actions.", ("action", "outcome"), counts.actions.items())
        yield from self._background()
        yield from self._runs()
        yield from self._managers()
        yield from self._hooks()
        yield from self._host()

    def _background(self) -> Iterator[Metric]:
        counts = self._app.counts
        labels = ("action", "outcome")
        yield _histogram("base04_execution", "Executions in the background.", labels, counts.executions.items())
        waits = "How long executions waited to begin."
        yield _histogram("base04_execution_wait", waits, ("action",), counts.waits.items())
        refusals = CounterMetricFamily("base04_rate_limited", "Calls that a limit refused.", labels=("level",))
        for level, number in sorted(counts.refusals.items()):
            refusals.add_metric((level,), number)
        yield refusals

    def _runs(self) -> Iterator[Metric]:
        executions, workers = self._app.executions, self._generation.pipeline.workers
        open_here = GaugeMetricFamily(
            "base04_executions", "Executions in the background, in this process.", labels=("status",)
        )
        open_here.add_metric(("running",), len(executions.live))
        open_here.add_metric(("queued",), len(executions.queued))
        yield open_here
        history = executions.history
        yield GaugeMetricFamily("base04_history_waiting", "Runs that wait to be written.", history.waiting)
        yield CounterMetricFamily("base04_history_dropped", "Runs that were never written.", history.dropped)
        yield GaugeMetricFamily(
            "base04_threads_abandoned", "Threads that go on with a handler that took too long.", workers.abandoned
        )
        calls = GaugeMetricFamily("base04_threads", "Handlers that are not async.", labels=("status",))
        calls.add_metric(("running",), workers.running)
        calls.add_metric(("waiting",), workers.waiting)
        yield calls

    def _managers(self) -> Iterator[Metric]:
        health = GaugeMetricFamily(
            "base04_manager_health", "1 healthy, 0.5 degraded, 0 unhealthy.", labels=("manager", "provider")
        )
        reported = GaugeMetricFamily(
            "base04_manager", "What a manager reports in its health.", labels=("manager", "metric")
        )
        latest = self._app.health.latest
        providers = {str(key): item.node.choice.candidate for key, item in self._generation.running.items()}
        for name, report in latest["managers"].items() if latest is not None else ():
            candidate = providers.get(name)
            health.add_metric((name, candidate.provider.name if candidate else ""), _STATUS[report["status"]])
            for metric, value in report["metrics"].items():
                reported.add_metric((name, metric), float(value))
        yield health
        yield reported

    def _hooks(self) -> Iterator[Metric]:
        labels = ("plugin", "hook", "stage")
        calls = SummaryMetricFamily(
            "base04_hook_seconds", "Calls of plugins' hooks, where they are traced.", labels=labels
        )
        longest = GaugeMetricFamily("base04_hook_longest_seconds", "The longest of those calls.", labels=labels)
        for key, timing in self._app.succession.hook_timings or ():
            calls.add_metric(key, timing.count, timing.total)
            longest.add_metric(key, timing.longest)
        yield calls
        yield longest

    def _host(self) -> Iterator[Metric]:
        plugins = GaugeMetricFamily("base04_plugins", "Plugins by their status.", labels=("status",))
        for status, number in sorted(Counter(item["status"] for item in self._app.list_plugins()).items()):
            plugins.add_metric((status,), number)
        yield plugins
        yield GaugeMetricFamily("base04_generation", "The generation that serves.", self._generation.number)
        yield GaugeMetricFamily("base04_pins", "What uses this generation now.", self._generation.pins)
        yield InfoMetricFamily("base04_host", "The running host.", {"version": self._app.version})
        telemetry = self._app.telemetry
        items = CounterMetricFamily("base04_telemetry_items", "Spans and log lines sent.", labels=("signal", "result"))
        for delivery in telemetry.deliveries if telemetry is not None else ():
            items.add_metric((delivery.signal, "delivered"), delivery.delivered)
            items.add_metric((delivery.signal, "lost"), delivery.lost)
        yield items


def _histogram(
    name: str, documentation: str, labels: tuple[str, ...], found: Iterable[tuple[tuple[str, ...], Durations]]
) -> Metric:
    family = HistogramMetricFamily(f"{name}_duration_seconds", documentation, labels=labels)
    bounds = [*map(str, BUCKETS_S), "+Inf"]
    for key, durations in sorted(found, key=lambda item: item[0]):
        buckets = list(zip(bounds, map(float, accumulate(durations.buckets)), strict=True))
        family.add_metric(key, buckets, durations.seconds)
    return family


def exposition(app: AppManager, generation: Generation) -> bytes:
    """Return the metrics as text: the host's, the process's, and those of plugins, each plugin on its own."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HostCollector(app, generation))
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    written = [generate_latest(registry)]
    for plugin, collector in generation.contributions.metrics:
        written.append(collected(plugin, collector, generation.contributions))
    return b"".join(written)
