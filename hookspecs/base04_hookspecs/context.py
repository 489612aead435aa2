"""Who is calling, and what for: the context of the request that is being served."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from base04_hookspecs.errors import AuthenticationError, PermissionDenied

AuthenticationMethod = Literal["anonymous", "token", "api_key", "local", "plugin"]


def grants(patterns: Iterable[str], permission: str) -> bool:
    """Tell whether one of the granted patterns covers a permission.

    A pattern is a permission (``users.write``), a prefix that ends in ``.*`` (``users.*`` covers ``users.write`` and
    ``users.a.b``, neither ``users`` nor ``usersx``), or ``*``, which covers everything. A pattern may itself be asked
    for: ``grants(["users.*"], "users.admin.*")`` is true.
    """
    for pattern in patterns:
        if pattern in ("*", permission):
            return True
        if pattern.endswith(".*") and permission.startswith(pattern[:-1]) and permission != pattern[:-1]:
            return True
    return False


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling. ``user_id`` is None for an anonymous caller, who holds no permission."""

    user_id: str | None = None
    permissions: tuple[str, ...] = ()
    method: AuthenticationMethod = "anonymous"
    api_key_id: str | None = None
    token_id: str | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)

    @property
    def authenticated(self) -> bool:
        """Whether the caller proved who they are."""
        return self.method != "anonymous"

    def may(self, permission: str) -> bool:
        """Tell whether the caller holds a permission."""
        return grants(self.permissions, permission)

    def require(self, permission: str) -> None:
        """Go on only where the caller holds a permission.

        Raises:
            AuthenticationError: the caller is anonymous.
            PermissionDenied: the caller lacks the permission.
        """
        if not self.authenticated:
            raise AuthenticationError("no credentials were shown")
        if not self.may(permission):
            raise PermissionDenied(f"This needs the permission {permission!r}.", [permission])


ANONYMOUS: Final = Principal()

LOCAL: Final = Principal(user_id="local", permissions=("*",), method="local")
"""Whoever runs the host: the program that embeds it, or who can open its control socket."""


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What a manager may know about the call that it is part of.

    ``client_ip`` is the caller's address after trusted proxies, None where there is none (the command line).
    ``source`` says how the call came in. ``action`` is the full name of the action being run.
    """

    request_id: str
    principal: Principal = ANONYMOUS
    client_ip: str | None = None
    source: Literal["http", "websocket", "cli", "action", "program"] = "program"
    action: str | None = None
    depth: int = 0


_current: ContextVar[RequestContext | None] = ContextVar("base04_request", default=None)


def current_request() -> RequestContext | None:
    """Return the context of the request being served, None outside of one. It follows tasks and worker threads."""
    return _current.get()


def require_permission(permission: str) -> Principal:
    """Return who the current request is for, where they hold a permission. For the handlers of a plugin's routes.

    Raises:
        AuthenticationError: the caller is anonymous, or there is no request.
        PermissionDenied: the caller lacks the permission.
    """
    request = current_request()
    principal = ANONYMOUS if request is None else request.principal
    principal.require(permission)
    return principal


class use_request:  # noqa: N801 - reads as a verb: `with use_request(context):`
    """Make a context the current one inside a ``with`` block. For whoever accepts requests."""

    __slots__ = ("_context", "_token")

    def __init__(self, context: RequestContext) -> None:
        self._context = context

    def __enter__(self) -> RequestContext:
        self._token = _current.set(self._context)
        return self._context

    def __exit__(self, *exc_info: object) -> None:
        _current.reset(self._token)
