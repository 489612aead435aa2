"""What plugins add to the served application: routes and middleware, each admitted or refused on its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import structlog
from starlette.middleware import Middleware
from starlette.routing import BaseRoute, Match, Route
from starlette.types import ASGIApp

from base04.errors import HostError
from base04.plugins.contributions import Contributions
from base04.plugins.isolation import pressed

_HOST: Final = "Base04"

_ALL_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})

_log = structlog.get_logger()


class PluginRoutes:
    """The plugins' routes; one whose path is taken is refused, and who has it is named in the log.

    A plugin may have several routes of one path that answer other methods.
    """

    def __init__(self, contributions: Contributions, own: Sequence[Route]) -> None:
        self._contributions, self._own = contributions, own
        self.admitted: list[BaseRoute] = []
        taken: dict[str, str] = {route.path: _HOST for route in own} | {"/ws": _HOST}
        answered: dict[str, set[str]] = {}
        for plugin, route in contributions.routes:
            if not isinstance(route, BaseRoute):
                contributions.refused.add(id(route))
                contributions.blame("routes", route, HostError(f"{_shown(route)} is not a Starlette route."))
                _log.error(
                    "a plugin's route is refused, it is not a Starlette route", plugin=plugin, route=_shown(route)
                )
                continue
            path = getattr(route, "path", None)  # a Host route has none, and takes no path
            owner = None if path is None else taken.get(path) or (_HOST if _covered(path, own) else None)
            methods = getattr(route, "methods", None) or set()
            if owner == f"plugin {plugin}" and methods and path is not None and methods.isdisjoint(answered[path]):
                owner = None  # another method of its own path
            if owner is not None:
                contributions.refused.add(id(route))
                contributions.blame("routes", route, HostError(f"The path {path!r} is taken by {owner}."))
                _log.error("a plugin's route is refused, its path is taken", plugin=plugin, path=path, owner=owner)
                continue
            if path is not None:
                taken[path] = f"plugin {plugin}"
                answered.setdefault(path, set()).update(methods or _ALL_METHODS)
            self.admitted.append(route)

    def blame(self, kind: str, method: str, path: str, error: BaseException) -> str:
        """Keep what came out of the router with the plugin whose route it was, and return its name, if it was one."""
        probe: dict[str, Any] = {"type": kind, "path": path, "method": method, "headers": [], "root_path": ""}
        if any(route.matches(dict(probe))[0] is Match.FULL for route in self._own):
            return ""
        for route in self.admitted:
            if route.matches(dict(probe))[0] is Match.FULL:
                return self._contributions.blame("routes", route, error)
        return ""


def _covered(path: str, own: Sequence[Route]) -> bool:
    probe: dict[str, Any] = {"type": "http", "path": path, "method": "GET", "headers": []}
    return any(route.matches(probe)[0] is not Match.NONE for route in own)


class PluginMiddleware:
    """The plugins' middleware around an application, the first outermost; one that cannot be made is left out."""

    def __init__(self, app: ASGIApp, contributions: Contributions) -> None:
        self._contributions, self._innermost = contributions, app
        self._made: dict[int, object] = {}
        self.app = app
        for item in reversed(contributions.middleware):
            try:
                if not isinstance(item, Middleware):
                    raise HostError(f"{_shown(item)} is not a starlette.middleware.Middleware.")
                made = item.cls(self.app, *item.args, **item.kwargs)
                if not callable(made):
                    raise TypeError(f"It made {made!r}, which is no ASGI application.")
            except BaseException as error:
                if pressed(error):
                    raise
                plugin = contributions.blame("middleware", item, error)
                _log.exception(
                    "a plugin's middleware is left out, it cannot be made", plugin=plugin, middleware=_shown(item)
                )
            else:
                self._made[id(getattr(made, "__wrapped__", made))] = item
                self.app = made

    def blame(self, error: BaseException) -> str:
        """Return the plugin whose middleware raised what came out, and keep it there; nothing where it was another's.

        It is found by the objects that the traceback leads through: the last of them is where it came from.
        """
        found, traceback = None, error.__traceback__ if self._made else None
        while traceback is not None:
            within = traceback.tb_frame.f_locals.get("self")
            if within is self._innermost:
                return ""
            found = self._made.get(id(within), found)
            traceback = traceback.tb_next
        return self._contributions.blame("middleware", found, error) if found is not None else ""


def _shown(item: object) -> str:
    try:
        return repr(item)
    except BaseException:  # noqa: BLE001 - a plugin's object may do anything when it is looked at
        return type(item).__qualname__
