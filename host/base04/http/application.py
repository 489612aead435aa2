"""``create_app``: the ASGI factory."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from base04.app_manager import AppManager
from base04.settings import HostSettings


class HostApplication(Starlette):
    """A Starlette application that serves what the newest generation of its ``manager`` serves.

    Routes and middleware can be added to it as to any other; routes that are added come first.
    """

    def __init__(self, manager: AppManager) -> None:
        self.manager = manager

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            async with manager:
                yield

        super().__init__(lifespan=lifespan)
        self.router.default = manager.serve

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, connection, or the lifespan."""
        if scope["type"] == "lifespan" or self.router.routes or self.user_middleware:
            await super().__call__(scope, receive, send)
        else:  # nothing was added: the shorter way to the same answer
            scope["app"] = self
            await self.manager.serve(scope, receive, send)


def create_app(settings: HostSettings | Mapping[str, Any] | str | Path | None = None, **options: Any) -> Starlette:
    """Make an ASGI application that starts and stops the host with its lifespan.

    Args:
        settings: as for ``AppManager``.
        options: the keyword arguments of ``AppManager``.
    """
    return HostApplication(AppManager(settings, **options))
