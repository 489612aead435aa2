"""The role ``webhooks``: telling others over HTTP what has happened."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, TypedDict

from base04_hookspecs import Manager


class EndpointStatus(TypedDict):
    """How deliveries to an endpoint are: ``waiting`` are tried again, ``dead`` were given up. ``url`` has no path."""

    endpoint: str
    url: str
    waiting: int
    dead: int
    last_error: str | None


class WebhooksManager(Manager):
    """Posts events to the endpoints that want them, at least once, from an outbox in the database."""

    role: ClassVar[str] = "webhooks"

    @abstractmethod
    def wants(self, event: str) -> bool:
        """Tell whether any endpoint wants an event of this name. Asked for each event: does no I/O."""

    @abstractmethod
    async def post(self, event: str, data: Mapping[str, Any]) -> bool:
        """Write an event to the outbox and return True; False where nobody wants it.

        When this returns, the event outlives the process. Where the database is away it waits in memory instead.

        Raises:
            InvalidInput: the data are not JSON.
        """

    @abstractmethod
    def post_soon(self, event: str, data: Mapping[str, Any]) -> bool:
        """As ``post``, without waiting: the event is written some milliseconds later, and lost if the process dies.

        Raises:
            InvalidInput: the data are not JSON.
        """

    @abstractmethod
    async def status(self) -> list[EndpointStatus]:
        """Return how each endpoint is, by name."""

    @abstractmethod
    async def retry(self, endpoint: str) -> int:
        """Try all that waits for an endpoint, or was given up, again now; return how many those are.

        Raises:
            NotFound: there is no such endpoint.
        """
