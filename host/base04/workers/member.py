"""A worker's part of the host: it takes turns at changing it, and follows what the others have changed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Set
from typing import TYPE_CHECKING, Final

import structlog

from base04.workers import messages
from base04.workers.channel import Channel
from base04_hookspecs.errors import ManagerUnavailable

if TYPE_CHECKING:
    from base04.workers.host import WorkerHost

GONE: Final = "The supervisor of this host is gone, and this worker ends. Start the host again."

_log = structlog.get_logger()


class Member:
    """Answers the supervisor, and asks it for turns.

    Args:
        channel: the line to the supervisor.
        greet: makes what the host says at its start, from its URL.
        stop: ends this worker; called with ``at_once``.
        orphaned: called when the supervisor is gone.
    """

    def __init__(
        self,
        channel: Channel,
        greet: Callable[[str], Awaitable[list[str]]],
        stop: Callable[[bool], None],
        orphaned: Callable[[], None],
    ) -> None:
        self._channel, self._greet, self._stop, self._orphaned = channel, greet, stop, orphaned
        self._host: WorkerHost | None = None
        self._changes = itertools.count(1)
        self._waiting: dict[tuple[str, int], asyncio.Future[str]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._following = asyncio.Lock()
        self._gone = False
        self._accept: Callable[[Set[int]], Awaitable[None]] | None = None
        self._accepting: frozenset[int] = frozenset()
        self.admitted = asyncio.Event()
        self.roster: messages.Roster | None = None

    @contextlib.asynccontextmanager
    async def of(self, host: WorkerHost) -> AsyncIterator[None]:
        """Listen to the supervisor on behalf of a host."""
        self._host = host
        listening = asyncio.create_task(self._listen(), name="supervisor")
        try:
            yield
        finally:
            for task in (listening, *self._tasks):
                task.cancel()
            await asyncio.gather(listening, *self._tasks, return_exceptions=True)

    def tell(self, news: messages.News) -> None:
        """Tell the supervisor."""
        self._channel.send(news)

    async def serving(self, accept: Callable[[Set[int]], Awaitable[None]]) -> None:
        """Say that this worker accepts connections; ``accept`` has it do so for others too."""
        self._accept = accept
        self.tell(messages.Serving())
        await accept(self._accepting)

    @contextlib.asynccontextmanager
    async def turn(self, renew: str | None = None) -> AsyncIterator[None]:
        """Change the host within, alone among all workers; afterwards wait until the others have followed.

        Whether it has changed is seen from its blueprint, so that a change that was cut short counts where it was made.

        Raises:
            ManagerUnavailable: this worker is not to change the host.
        """
        assert self._host is not None
        change = next(self._changes)
        granted, converged = self._expect("turn", change), self._expect("converged", change)
        self.tell(messages.TurnWanted(change))
        owed: messages.News | None = messages.Unchanged(change)
        try:
            if refusal := await granted:
                raise ManagerUnavailable(refusal)
            before = self._host.blueprint
            try:
                yield
            finally:
                owed = None
                if self._host.blueprint is not before:
                    self.tell(messages.Changed(change, self._host.accept(), renew))
                else:
                    self.tell(messages.Unchanged(change))
            if self._host.blueprint is not before:
                await converged
        finally:
            if owed is not None:
                self.tell(owed)
            for name in ("turn", "converged"):
                self._waiting.pop((name, change), None)

    def _expect(self, name: str, change: int) -> asyncio.Future[str]:
        future = asyncio.get_running_loop().create_future()
        if self._gone:
            future.set_result(GONE)
        else:
            self._waiting[name, change] = future
        return future

    async def _listen(self) -> None:
        while (order := await self._channel.receive()) is not None:
            self._take(order)
        self._gone = True
        _log.error("the supervisor is gone, and this worker ends")
        for future in self._waiting.values():
            if not future.done():
                future.set_result(GONE)
        self._orphaned()

    def _take(self, order: messages.Order) -> None:
        match order:
            case messages.Serve():
                self.admitted.set()
            case messages.Stop():
                self._stop(order.at_once)
            case messages.Roster():
                self.roster = order
            case messages.Turn():
                self._settle("turn", order.change, order.refusal)
            case messages.Converged():
                self._settle("converged", order.change)
            case messages.Ask():
                self.tell(messages.State(self._host.own_status() if self._host is not None else None))
            case messages.Accept():
                self._accepting = order.numbers
                if self._accept is not None:
                    self._begin(self._accept(order.numbers), "accept")
            case messages.Follow():
                self._begin(self._follow(order), "follow")
            case messages.Greet():
                self._begin(self._say_greeting(order.url), "greet")
            case messages.ReadAnew():
                self._begin(self._read_anew(), "reload")

    def _settle(self, name: str, change: int, outcome: str = "") -> None:
        future = self._waiting.get((name, change))
        if future is not None and not future.done():
            future.set_result(outcome)

    def _begin(self, step: Awaitable[None], name: str) -> None:
        async def taken() -> None:
            await step

        task = asyncio.create_task(taken(), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _follow(self, order: messages.Follow) -> None:
        assert self._host is not None
        async with self._following:  # one after the other, in the order in which they came
            try:
                await self._host.follow(order.accepted, order.renew)
            except Exception as error:  # noqa: BLE001 - whatever it is: the supervisor has this process replaced
                _log.error("a change could not be followed", revision=order.accepted.revision, error=str(error))
                self.tell(messages.Followed(order.accepted.revision, str(error) or repr(error)))
            else:
                self.tell(messages.Followed(order.accepted.revision))

    async def _say_greeting(self, url: str) -> None:
        self.tell(messages.Greeting(tuple(await self._greet(url))))

    async def _read_anew(self) -> None:
        assert self._host is not None
        try:
            await self._host.reload()
        except Exception as error:  # noqa: BLE001 - the host goes on as it is, whatever was found; it is reported
            _log.error("the host was not reloaded", error=str(error))
