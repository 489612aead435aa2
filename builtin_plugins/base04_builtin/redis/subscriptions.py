"""All subscriptions of one process, by channel."""

from __future__ import annotations

import asyncio

from base04_builtin.redis.subscription import Subscription
from base04_hookspecs.redis import GapCallback, MessageCallback


class Subscriptions:
    """Who listens to which channel."""

    def __init__(self, queue_size: int) -> None:
        self._queue_size = queue_size
        self._channels: dict[str, list[Subscription]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._past_failures = 0
        self._past_dropped = 0

    def __len__(self) -> int:
        return sum(map(len, self._channels.values()))

    @property
    def failures(self) -> int:
        """How many callbacks have raised."""
        return self._past_failures + sum(one.failures for many in self._channels.values() for one in many)

    @property
    def dropped(self) -> int:
        """How many messages were dropped because a subscriber was too slow."""
        return self._past_dropped + sum(one.dropped for many in self._channels.values() for one in many)

    def add(self, channel: str, callback: MessageCallback, on_gap: GapCallback | None) -> None:
        """Begin to deliver; a callback that listens to the channel already goes on as it is."""
        listening = self._channels.setdefault(channel, [])
        if any(one.callback == callback for one in listening):
            return
        subscription = Subscription(channel, callback, on_gap, self._queue_size)
        listening.append(subscription)
        self._tasks.add(subscription.task)
        subscription.task.add_done_callback(self._tasks.discard)

    def remove(self, channel: str, callback: MessageCallback) -> bool:
        """Deliver no more to the callback; False where it does not listen."""
        listening = self._channels.get(channel, [])
        for subscription in listening:
            if subscription.callback == callback:
                listening.remove(subscription)
                if not listening:
                    del self._channels[channel]
                self._retire(subscription)
                return True
        return False

    def listens(self, channel: str) -> bool:
        """Tell whether anybody listens to the channel."""
        return channel in self._channels

    def put_gap(self, channel: str) -> None:
        """Queue for all who listen to the channel the news that messages may have been missed."""
        for subscription in self._channels.get(channel, ()):
            subscription.put_gap()

    def publish(self, channel: str, raw: str | bytes) -> int:
        """Queue a message for all who listen to the channel and return how many do."""
        listening = self._channels.get(channel)
        if listening is None:
            return 0
        for subscription in listening:
            subscription.put(raw)
        return len(listening)

    async def close(self) -> None:
        """End all deliveries, those in progress included."""
        for listening in self._channels.values():
            for subscription in listening:
                self._retire(subscription)
        self._channels.clear()
        tasks = self._tasks - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _retire(self, subscription: Subscription) -> None:
        subscription.close()
        self._past_failures += subscription.failures
        self._past_dropped += subscription.dropped
