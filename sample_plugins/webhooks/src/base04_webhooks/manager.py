"""The provider ``outbox``."""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import httpx2 as httpx
from pydantic import HttpUrl

from base04_hookspecs import HealthReport, health_report
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import Base04Error, InvalidInput, NotFound
from base04_webhooks.contract import EndpointStatus, WebhooksManager
from base04_webhooks.courier import Courier
from base04_webhooks.intake import Intake
from base04_webhooks.outbox import Letter, Outbox, new_id
from base04_webhooks.settings import WebhooksSettings

_SWEEP_S: Final = 3600.0


class OutboxWebhooksManager(WebhooksManager):
    """Keeps events in the database until their endpoints have taken them."""

    def __init__(self, settings: WebhooksSettings, database: DatabaseManager) -> None:
        self._settings = settings
        self._outbox = Outbox(database)
        self._intake = Intake(self._outbox, settings.queue_size, self._wake_all)
        self._couriers: dict[str, Courier] = {}
        self._client: httpx.AsyncClient | None = None
        self._sweeping: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Make the table, and go on with what was left."""
        await self._outbox.open()
        limits = httpx.Limits(max_connections=self._settings.parallel * max(1, len(self._settings.endpoints)))
        self._client = httpx.AsyncClient(follow_redirects=False, limits=limits, timeout=None)
        for name, endpoint in self._settings.endpoints.items():
            self._couriers[name] = Courier(name, endpoint, self._settings, self._outbox, self._client)
        self._intake.start()
        for courier in self._couriers.values():
            courier.start()
        self._sweeping = asyncio.create_task(self._sweep(), name="webhooks sweep")

    async def stop(self) -> None:
        """Write what waits in memory, and let deliveries end, each for ``drain_timeout`` at most."""
        sweeping, self._sweeping = self._sweeping, None
        if sweeping is not None:
            sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweeping
        patience = self._settings.drain_timeout
        await asyncio.gather(self._intake.stop(patience), *(each.stop(patience) for each in self._couriers.values()))
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    async def health_check(self) -> HealthReport:
        """Report what waits, and which endpoints fail."""
        began = time.perf_counter()
        try:
            waiting = sum([await self._outbox.count(name, "waiting") for name in self._couriers])
        except Base04Error as error:
            return health_report("unhealthy", f"the outbox cannot be read: {error}", errors=self._intake.dropped)
        failing = [name for name, courier in self._couriers.items() if courier.failures]
        well = not failing and self._intake.trouble is None and not self._intake.dropped
        details = f"{waiting} messages wait"
        details += f"; not taken by {', '.join(failing)}" if failing else ""
        details += f"; {self._intake.dropped} events were dropped" if self._intake.dropped else ""
        return health_report(
            "healthy" if well else "degraded",
            details,
            connections=len(self._couriers),
            errors=self._intake.dropped,
            response_time=time.perf_counter() - began,
            waiting=waiting,
            queued=len(self._intake),
            delivered=sum(courier.delivered for courier in self._couriers.values()),
        )

    def wants(self, event: str) -> bool:
        """Tell whether any endpoint wants an event."""
        return any(self._endpoints_for(event))

    async def post(self, event: str, data: Mapping[str, Any]) -> bool:
        """Write an event to the outbox."""
        letters = self._letters(event, data)
        if letters:
            await self._intake.write(letters)
        return bool(letters)

    def post_soon(self, event: str, data: Mapping[str, Any]) -> bool:
        """Queue an event for the outbox."""
        letters = self._letters(event, data)
        if letters:
            self._intake.put(letters)
        return bool(letters)

    async def status(self) -> list[EndpointStatus]:
        """Return how each endpoint is."""
        return [
            {
                "endpoint": name,
                "url": _origin(endpoint.url),
                "waiting": await self._outbox.count(name, "waiting"),
                "dead": await self._outbox.count(name, "dead"),
                "last_error": await self._outbox.last_error(name),
            }
            for name, endpoint in sorted(self._settings.endpoints.items())
        ]

    async def retry(self, endpoint: str) -> int:
        """Try again now."""
        courier = self._couriers.get(endpoint)
        if courier is None:
            raise NotFound(
                f"There is no endpoint {endpoint!r}; there are {', '.join(sorted(self._couriers)) or 'none'}."
            )
        revived = await self._outbox.revive(endpoint)
        courier.wake(urgent=True)
        return revived

    def _endpoints_for(self, event: str) -> list[str]:
        return [
            name
            for name, endpoint in self._settings.endpoints.items()
            if any(fnmatch.fnmatchcase(event, pattern) for pattern in endpoint.events)
        ]

    def _letters(self, event: str, data: Mapping[str, Any]) -> list[Letter]:
        names = self._endpoints_for(event)
        if not names:
            return []
        told = {"type": event, "timestamp": datetime.now(UTC).isoformat(), "data": dict(data)}
        try:
            body = json.dumps(told, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
            body.encode()
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"The data of the event {event!r} are not JSON: {error}.") from error
        return [Letter(new_id(), name, event, body) for name in names]

    def _wake_all(self) -> None:
        for courier in self._couriers.values():
            courier.wake()

    async def _sweep(self) -> None:
        while True:
            with contextlib.suppress(Base04Error):  # the next time will do
                await self._outbox.sweep(self._settings.keep)
            await asyncio.sleep(_SWEEP_S)


def _origin(url: HttpUrl) -> str:
    """Return where an endpoint is, without its path, which often is as good as a secret."""
    return f"{url.scheme}://{url.host}:{url.port}"
