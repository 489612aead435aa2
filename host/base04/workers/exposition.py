"""The metrics of several workers as one page: each sample with the number of its worker."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from base04.workers import messages

LABEL: Final = "worker"

_log = structlog.get_logger()


def together(texts: Mapping[int, bytes], roster: messages.Roster) -> bytes:
    """Return what all workers tell, with a label ``worker``, and what the host tells of its workers.

    Args:
        texts: what each worker tells of itself, in the text format of Prometheus, by its number.
        roster: all workers.
    """
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(texts, roster))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, texts: Mapping[int, bytes], roster: messages.Roster) -> None:
        self._texts, self._roster = texts, roster

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for number in sorted(self._texts):
            for family in _parsed(number, self._texts[number]):
                known = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type, family.unit)
                )
                known.samples += [_labelled(sample, number) for sample in family.samples]
        return [*families.values(), *of_workers(self._texts.keys(), self._roster)]


def of_workers(heard: Collection[int], roster: messages.Roster) -> Iterator[Metric]:
    """Yield what a host tells of its workers; ``heard`` are those that have told their metrics."""
    up = GaugeMetricFamily("base04_worker_up", "1 where a worker serves and has told its metrics.", labels=(LABEL,))
    revision = GaugeMetricFamily("base04_worker_revision", "The revision that a worker serves.", labels=(LABEL,))
    for peer in roster.peers:
        number = peer.report["worker"]
        up.add_metric((str(number),), peer.report["status"] == "serving" and number in heard)
        revision.add_metric((str(number),), peer.report["revision"])
    yield up
    yield revision
    yield GaugeMetricFamily("base04_revision", "The revision that all workers should serve.", roster.revision)
    yield CounterMetricFamily("base04_worker_restarts", "Workers that were replaced.", roster.restarts)


def _parsed(number: int, text: bytes) -> list[Metric]:
    try:
        return list(text_string_to_metric_families(text.decode()))
    except ValueError as error:
        _log.error("the metrics of a worker are left out", asked=number, error=str(error))
        return []


def _labelled(sample: Sample, number: int) -> Sample:
    """Add the worker's number; a label of the same name is kept as Prometheus keeps one that it overrules."""
    labels = dict(sample.labels)
    if LABEL in labels:
        labels[f"exported_{LABEL}"] = labels[LABEL]
    return sample._replace(labels={**labels, LABEL: str(number)})
