"""What collectors of plugins add to the metrics, each on its own and in a time of its own."""

from __future__ import annotations

import threading
from contextvars import copy_context
from typing import Any, Final

import structlog
from prometheus_client import CollectorRegistry, generate_latest

from base04.plugins.contributions import Contributions
from base04_hookspecs.errors import ManagerError

PATIENCE_S: Final = 5.0
"""How long a collector may take; the answer does not wait longer."""

_log = structlog.get_logger()


def collected(plugin: str, collector: Any, contributions: Contributions) -> bytes:
    """Return what a plugin's collector adds, as text; one that fails or hangs is reported, and adds nothing.

    One that hangs keeps its thread, and is not asked again until it has ended: it can hold up no other.
    """
    stuck = contributions.stuck_collectors.get(id(collector))
    if stuck is not None and stuck.is_alive():
        return b""
    written: list[bytes] = []
    raised: list[BaseException] = []

    def ask() -> None:
        registry = CollectorRegistry(auto_describe=False)
        try:
            registry.register(collector)
            written.append(bytes(generate_latest(registry)))
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is told of below
            raised.append(error)

    thread = threading.Thread(target=copy_context().run, args=(ask,), name=f"metrics of {plugin}", daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    if thread.is_alive():
        contributions.stuck_collectors[id(collector)] = thread
        raised.append(ManagerError(f"It did not answer within {PATIENCE_S:g} s, and is not asked until it has ended."))
    if not raised:
        return written[0]
    contributions.blame("metrics", collector, raised[0])
    _log.error("the metrics of a plugin are left out", plugin=plugin, exc_info=raised[0])
    return b""
