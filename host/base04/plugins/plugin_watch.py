"""What is noted of the callables of plugins that a run of an action calls."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final
from weakref import WeakSet

import structlog

from base04.plugins import watchdog
from base04.plugins.contributions import Contributions
from base04_hookspecs.host_hooks import ActionCall

QUIET_S: Final = 60.0
"""So long a callable that was named as slow is not named again."""

_log = structlog.get_logger()


@dataclass(slots=True)
class _Slow:
    named_at: float
    since: int = 0
    longest: float = 0.0


class SlowCalls:
    """Names what takes long, each thing once in a while with how often it did since."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], _Slow] = {}
        self.watches: WeakSet[PluginWatch] = WeakSet()

    def name_hanging(self) -> None:
        """Name what has not ended, in whichever generation; the host calls it now and then."""
        for watch in list(self.watches):
            watch.name_hanging()

    def note(self, plugin: str, part: str, seconds: float) -> None:
        """Count a slow call, and name it unless that was done a short while ago."""
        now, found = time.monotonic(), self._known.get((plugin, part))
        if found is not None and now - found.named_at < QUIET_S:
            found.since, found.longest = found.since + 1, max(found.longest, seconds)
            return
        _log.warning(
            "a callable of a plugin is slow",
            plugin=plugin,
            part=part,
            seconds=round(seconds, 3),
            slow_since=found.since if found is not None else 0,
            longest_since=round(found.longest, 3) if found is not None else 0.0,
        )
        self._known[plugin, part] = _Slow(now)


class PluginWatch:
    """Knows whose the callables of a generation are, and notes what they raise and that they are slow.

    ``under_way`` has what is being called now, by the id of its run: the run, the hook, the callable, and since when.
    """

    def __init__(self, contributions: Contributions, slow_calls: SlowCalls, slow_after_s: float) -> None:
        self._contributions, self._slow_calls, self.slow_after_s = contributions, slow_calls, slow_after_s
        self.under_way: dict[int, tuple[ActionCall, str, object, float]] = {}
        self._named: set[tuple[int, float]] = set()
        slow_calls.watches.add(self)

    def blame(self, hook: str, item: object, error: BaseException) -> str:
        """Keep what something raised with its plugin, and return the plugin's name."""
        return self._contributions.blame(hook, item, error)

    def slow(self, hook: str, item: object, seconds: float) -> None:
        """Note that a call took longer than ``slow_after_s``."""
        owner = self._contributions.owners.get((hook, id(item)))
        if owner is not None:
            self._slow_calls.note(owner.plugin.name, owner.part, seconds)

    def name_hanging(self) -> None:
        """Name, once for each, what has been called some time ago and has not ended."""
        now, hanging = time.perf_counter(), set[tuple[int, float]]()
        for key, (call, hook, item, began) in list(self.under_way.items()):
            if now - began <= watchdog.SLOW_S:
                continue
            hanging.add((key, began))
            owner = self._contributions.owners.get((hook, id(item)))
            if owner is None or (key, began) in self._named:
                continue
            _log.warning(
                "a callable of a plugin takes long and has not ended",
                plugin=owner.plugin.name,
                part=owner.part,
                seconds=round(now - began, 1),
                action=call.action["name"],
                request_id=call.request.request_id,
            )
        self._named = hanging
