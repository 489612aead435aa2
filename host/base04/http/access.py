"""What a route demands of its caller."""

from __future__ import annotations

from starlette.requests import Request

from base04_hookspecs.context import RequestContext


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
