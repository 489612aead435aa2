"""What plugins add to the served application: routes and middleware, each admitted or refused on its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

import structlog
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp

_HOST: Final = "Base04"

_ALL_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})

_log = structlog.get_logger()


def admitted_routes(offered: Iterable[tuple[str, BaseRoute]], own: Sequence[Route]) -> list[BaseRoute]:
    """Return the plugins' routes; one whose path is taken is refused, and who has it is named in the log.

    A plugin may have several routes of one path that answer other methods.
    """
    taken: dict[str, str] = {route.path: _HOST for route in own} | {"/ws": _HOST}
    answered: dict[str, set[str]] = {}
    admitted: list[BaseRoute] = []
    for plugin, route in offered:
        if not isinstance(route, BaseRoute):
            _log.error("a plugin's route is refused, it is not a Starlette route", plugin=plugin, route=repr(route))
            continue
        path = getattr(route, "path", None)  # a Host route has none, and takes no path
        owner = None if path is None else taken.get(path) or (_HOST if _covered(path, own) else None)
        methods = getattr(route, "methods", None) or set()
        if owner == f"plugin {plugin}" and methods and path is not None and methods.isdisjoint(answered[path]):
            owner = None  # another method of its own path
        if owner is not None:
            _log.error("a plugin's route is refused, its path is taken", plugin=plugin, path=path, owner=owner)
            continue
        if path is not None:
            taken[path] = f"plugin {plugin}"
            answered.setdefault(path, set()).update(methods or _ALL_METHODS)
        admitted.append(route)
    return admitted


def _covered(path: str, own: Sequence[Route]) -> bool:
    probe: dict[str, Any] = {"type": "http", "path": path, "method": "GET", "headers": []}
    return any(route.matches(probe)[0] is not Match.NONE for route in own)


def wrapped(app: ASGIApp, middleware: Sequence[Middleware]) -> ASGIApp:
    """Put the plugins' middleware around an application, the first outermost; one that cannot be made is left out."""
    for item in reversed(middleware):
        try:
            app = item.cls(app, *item.args, **item.kwargs)
        except Exception:  # noqa: BLE001 - what a plugin brings never keeps the host from serving; it is reported
            _log.exception("a plugin's middleware is left out, it cannot be made", middleware=repr(item))
    return app
