"""A host that runs while pages are made, with the built-in plugins alone, in a folder that is thrown away."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeVar

import httpx2
import structlog

from base04 import AppManager

T = TypeVar("T")


def asked(question: Callable[[AppManager, httpx2.AsyncClient], Awaitable[T]]) -> T:
    """Start a host, and return what a question gives that is put to it as a caller who holds no permission."""
    with _silence(), tempfile.TemporaryDirectory() as folder:
        return asyncio.run(_asked(question, folder))


async def _asked(question: Callable[[AppManager, httpx2.AsyncClient], Awaitable[T]], folder: str) -> T:
    async with AppManager({"data_dir": folder}, safe_mode=True) as app:
        key = await app.api_key_manager.generate_api_key("nobody", [])
        transport = httpx2.ASGITransport(app=app.serve)
        async with httpx2.AsyncClient(
            transport=transport, base_url="http://localhost", headers={"x-api-key": key}
        ) as client:
            return await question(app, client)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Keep the log of the host off the terminal."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    try:
        yield
    finally:
        structlog.reset_defaults()
