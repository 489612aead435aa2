"""Deliveries to one endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from typing import Final

import httpx2 as httpx
import structlog

from base04_hookspecs.errors import Base04Error
from base04_webhooks.outbox import Letter, Outbox
from base04_webhooks.settings import EndpointSettings, WebhooksSettings
from base04_webhooks.signature import sign

_POLL_S: Final = 2.0
_LEASE_MARGIN_S: Final = 30.0
_LONGEST_RETRY_AFTER_S: Final = 86400.0
_GONE: Final = 410

_log = structlog.get_logger()


class _Refused(Exception):
    """A delivery failed. ``retry_after`` is what the endpoint asked for, in seconds."""

    def __init__(self, reason: str, *, retry_after: float = 0.0, final: bool = False) -> None:
        super().__init__(reason)
        self.retry_after = retry_after
        self.final = final


class Courier:
    """Takes the letters of one endpoint whose turn it is, and posts them.

    Whether another process does the same at the same time is decided by the outbox, letter by letter. While all fails,
    the endpoint is left alone for pauses that double, with one attempt at a time.
    """

    def __init__(
        self,
        name: str,
        endpoint: EndpointSettings,
        settings: WebhooksSettings,
        outbox: Outbox,
        client: httpx.AsyncClient,
    ) -> None:
        self.failures = 0
        self.delivered = 0
        self._name = name
        self._endpoint = endpoint
        self._settings = settings
        self._outbox = outbox
        self._client = client
        self._wake = asyncio.Event()
        self._in_hand: set[Letter] = set()
        self._deliveries: set[asyncio.Task[None]] = set()
        self._alone_until = 0.0
        self._ending = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to deliver."""
        self._task = asyncio.create_task(self._run(), name=f"webhooks to {self._name}")

    def wake(self, *, urgent: bool = False) -> None:
        """Look for letters; where it is ``urgent``, also while the endpoint is left alone."""
        if urgent:
            self.failures, self._alone_until = 0, 0.0
        self._wake.set()

    async def stop(self, timeout_s: float) -> None:
        """Let deliveries that are under way end, for so many seconds at most; the others are left to the next start."""
        task, self._task = self._task, None
        if task is None:
            return
        self._ending = True
        self._wake.set()
        await asyncio.wait([task], timeout=timeout_s)
        under_way = [task, *self._deliveries]
        for each in under_way:
            each.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)
        for letter in self._in_hand:
            with contextlib.suppress(Base04Error):  # then its lease ends by itself
                await self._outbox.put_off(letter, "the host stopped meanwhile", 0.0)

    async def _run(self) -> None:
        while not self._ending:
            self._wake.clear()  # before looking, so that nothing is missed in between
            try:
                pause = await self._take_up()
            except Base04Error as error:
                _log.warning("the outbox cannot be read just now", endpoint=self._name, error=str(error))
                pause = _POLL_S
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()
        if self._deliveries:
            await asyncio.wait(self._deliveries)

    async def _take_up(self) -> float:
        """Begin as many deliveries as there may be, and return after how many seconds to look again."""
        alone = self._alone_until - time.monotonic()
        if alone > 0:
            return alone
        free = (1 if self.failures else self._settings.parallel) - len(self._deliveries)
        if free <= 0:
            return _POLL_S
        due = await self._outbox.due(self._name, free)
        for letter in due:
            taken = await self._outbox.claim(letter, self._endpoint.timeout + _LEASE_MARGIN_S)
            if taken is None:
                continue
            self._in_hand.add(taken)
            if not self._ending:
                delivery = asyncio.create_task(self._deliver(taken), name=f"webhook {taken.id}")
                self._deliveries.add(delivery)
                delivery.add_done_callback(self._end)
        return 0.0 if len(due) == free else await self._until_next()

    def _end(self, delivery: asyncio.Task[None]) -> None:
        self._deliveries.discard(delivery)
        self._wake.set()

    async def _until_next(self) -> float:
        due = await self._outbox.next_due(self._name)
        return _POLL_S if due is None else min(_POLL_S, max(0.01, due - time.time()))

    async def _deliver(self, letter: Letter) -> None:
        try:
            await self._post(letter)
        except _Refused as refusal:
            self.failures += 1
            self._alone_until = time.monotonic() + self._pause_after(self.failures)
            await self._note(letter, refusal)
            return
        self.failures, self._alone_until = 0, 0.0
        self.delivered += 1
        with contextlib.suppress(Base04Error):  # then it is delivered a second time, which receivers know by its id
            await self._outbox.remove(letter)
        self._in_hand.discard(letter)

    async def _post(self, letter: Letter) -> None:
        body, timestamp = letter.body.encode(), int(time.time())
        headers = {
            "content-type": "application/json",
            "user-agent": "base04-webhooks",
            "webhook-id": letter.id,
            "webhook-timestamp": str(timestamp),
            "webhook-signature": sign(self._endpoint.secret.get_secret_value(), letter.id, timestamp, body),
        }
        try:
            async with (
                asyncio.timeout(self._endpoint.timeout),
                self._client.stream("POST", str(self._endpoint.url), content=body, headers=headers) as answer,
            ):
                status, wish = answer.status_code, answer.headers.get("retry-after", "")
        except TimeoutError:
            raise _Refused(f"no answer within {self._endpoint.timeout:g} s") from None
        except (httpx.HTTPError, OSError) as error:
            raise _Refused(f"{type(error).__name__}: {error}") from error
        if not 200 <= status < 300:
            wait = min(float(wish), _LONGEST_RETRY_AFTER_S) if wish.isdecimal() else 0.0
            raise _Refused(f"answered {status}", retry_after=wait, final=status == _GONE)

    async def _note(self, letter: Letter, refusal: _Refused) -> None:
        given_up = refusal.final or letter.turn >= self._settings.attempts
        _log.warning(
            "a webhook was not delivered",
            endpoint=self._name,
            message=letter.id,
            attempt=letter.turn,
            error=str(refusal),
            given_up=given_up,
        )
        with contextlib.suppress(Base04Error):  # then it is tried again when its lease has ended
            if given_up:
                await self._outbox.give_up(letter, str(refusal))
            else:
                pause = max(self._pause_after(letter.turn), refusal.retry_after)
                await self._outbox.put_off(letter, str(refusal), pause)
        self._in_hand.discard(letter)

    def _pause_after(self, failures: int) -> float:
        pause = min(self._settings.pause * 2.0 ** min(failures - 1, 30), self._settings.longest_pause)
        return pause * random.uniform(0.8, 1.2)  # noqa: S311 - spreads attempts, and guards nothing
