"""Servers for whole-host tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from serve_kit import Server

Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers, in ``tmp_path`` unless told otherwise; all of them are ended after the test."""
    with contextlib.ExitStack() as servers:

        def start(folder: Path | None = None, **options: Any) -> Server:
            return servers.enter_context(Server(folder or tmp_path, **options))

        yield start
