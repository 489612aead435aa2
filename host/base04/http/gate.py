"""What every request passes: the address is limited, the caller authenticated, then the caller is limited.

Strangers spend only what belongs to their own address, so they cannot lock anybody out, and a flood of them is
refused before anything is looked up or read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from starlette.types import Scope

from base04.actions.limits import ADDRESS, ALL, CALLER
from base04.generation import Generation
from base04.http.authentication import NOTHING, is_local, shown_in
from base04.http.exchange import Exchange
from base04.records.audit import AuditLog
from base04_hookspecs.context import ANONYMOUS, LOCAL, Principal, RequestContext
from base04_hookspecs.errors import AuthenticationError, PermissionDenied, RateLimited

if TYPE_CHECKING:
    from base04.app_manager import AppManager

_CREDENTIALS_APART: Final = frozenset({"/auth/refresh", "/auth/revoke"})
"""Routes whose body proves what is to be proved: a token in the header, which has expired by then, is not looked at."""


class Gate:
    """Lets requests in, for one generation."""

    def __init__(self, generation: Generation, app: AppManager) -> None:
        self._authentication = generation.authentication
        self._limits = generation.pipeline.limits
        self._audit: AuditLog = app.audit
        self._denial_cost = app.settings.server.denial_cost

    async def enter(
        self, client_ip: str | None, scope: Scope, exchange: Exchange, path: str
    ) -> tuple[Principal, Sequence[str]]:
        """Return who is calling, and the levels at which the request has not been counted yet.

        Raises:
            RateLimited: the address may not go on.
            AuthenticationError: what was shown does not prove who is calling; that is charged to the address.
        """
        if is_local(scope):
            return LOCAL, ()
        if path.startswith("/health/"):
            return ANONYMOUS, ()
        shown = NOTHING if path in _CREDENTIALS_APART else shown_in(exchange.fields, scope)
        if shown.authorization is not None:
            principal = await self._authentication.known(shown.authorization)
            if principal is not None:
                return principal, ALL
        elif shown is NOTHING and path == "/health":
            return ANONYMOUS, ()
        exchange.add_limits(await self._limits.count(ADDRESS, ANONYMOUS, client_ip, path))
        if path in _CREDENTIALS_APART:
            return ANONYMOUS, ()
        try:
            principal = await self._authentication.prove(shown, scope)
        except AuthenticationError:
            await self.charge(client_ip, path)
            raise
        return principal, CALLER if principal.authenticated else ()

    async def count(self, levels: Sequence[str], context: RequestContext, exchange: Exchange, path: str) -> None:
        """Count a request at the levels that have not been counted yet.

        Raises:
            RateLimited: one of them refuses.
        """
        if levels:
            exchange.add_limits(await self._limits.count(levels, context.principal, context.client_ip, path))

    async def charge(self, client_ip: str | None, path: str) -> None:
        """Charge a failed authentication to the address, so that guessing costs more than asking."""
        await self._limits.charge(client_ip, path, self._denial_cost - 1)

    def note_refusal(self, error: Exception, context: RequestContext, path: str) -> None:
        """Note in the audit log that somebody was refused, where this is about who they are and what they may do."""
        if isinstance(error, AuthenticationError):
            self._audit.deny("auth.denied", error.reason, context, path=path)
        elif isinstance(error, PermissionDenied):
            self._audit.deny("auth.denied", str(error), context, path=path, missing=list(error.missing))
        elif isinstance(error, RateLimited):
            reason = f"{'banned' if error.banned else 'too many calls'}: {', '.join(error.exceeded)}"
            self._audit.deny("rate_limit.exceeded", reason, context, path=path)
