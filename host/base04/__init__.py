"""Base04: a small host for swappable managers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from base04.app_manager import AppManager
    from base04.http.application import create_app

__all__ = ["AppManager", "create_app"]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then, so that ``base04.cli`` and plugins start fast."""
    if name == "AppManager":
        from base04.app_manager import AppManager

        return AppManager
    if name == "create_app":
        from base04.http.application import create_app

        return create_app
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
