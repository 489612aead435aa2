"""What a route demands of its caller."""

from __future__ import annotations

from starlette.requests import Request

from base04_hookspecs.context import RequestContext
from base04_hookspecs.errors import InvalidInput


def context_of(request: Request) -> RequestContext:
    """Return the context of a request."""
    context: RequestContext = request.scope["base04.context"]
    return context


def demand(request: Request, permission: str) -> None:
    """Let only callers with a permission go on.

    Raises:
        AuthenticationError: the caller is anonymous.
        PermissionDenied: the caller lacks the permission.
    """
    context_of(request).principal.require(permission)


def flag(request: Request, name: str) -> bool:
    """Return a query parameter that is ``true`` or ``false``, False where it is not given.

    Raises:
        InvalidInput: it is something else.
    """
    value = request.query_params.get(name, "false")
    if value not in ("true", "false"):
        raise InvalidInput(f"{name} is {value!r}: it is true or false.")
    return value == "true"
