"""An HTTP client of a host in the same process: no socket, no port, and the host's own authentication."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

try:
    import httpx2 as httpx
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(f"{error}. HostClient needs it: pip install 'base04[client]'", name="httpx2") from error

from base04.app_manager import AppManager

BASE_URL: Final = "http://testserver"


class HostClient(httpx.AsyncClient):
    """Asks a host that has started, as nobody in particular; ``as_...`` return clients that say who they are.

    Credentials are real: the host made them, and checks them as it does everybody's. What ``as_...`` return is closed
    with this client. An error that the host did not expect is raised, rather than answered with 500.
    """

    def __init__(self, app: AppManager, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(transport=httpx.ASGITransport(app.serve), base_url=BASE_URL, headers=dict(headers or {}))
        self.app = app
        self._others: list[HostClient] = []

    async def as_admin(self) -> HostClient:
        """Return a client that may do everything, with an API key."""
        return await self.with_key("admin", ["*"])

    async def as_user(
        self, user_id: str, permissions: Sequence[str] = (), claims: Mapping[str, Any] | None = None
    ) -> HostClient:
        """Return a client with an access token of a user; ``claims`` are further ones of the token."""
        given = {**(claims or {}), "permissions": list(permissions)}
        token = await self.app.jwt_manager.create_access_token(user_id, given)
        return self._other({"authorization": f"Bearer {token}"})

    async def with_key(self, user_id: str, permissions: Sequence[str] = (), **options: Any) -> HostClient:
        """Return a client with an API key of a user; ``options`` are those of ``generate_api_key``."""
        key = await self.app.api_key_manager.generate_api_key(user_id, list(permissions), **options)
        return self._other({"x-api-key": key})

    def as_stranger(self) -> HostClient:
        """Return a client that says nothing of who it is."""
        return self._other({})

    def _other(self, headers: Mapping[str, str]) -> HostClient:
        other = HostClient(self.app, headers=headers)
        self._others.append(other)
        return other

    async def aclose(self) -> None:
        """Close it, and the clients that it has returned."""
        while self._others:
            await self._others.pop().aclose()
        await super().aclose()

    async def __aexit__(self, *exc_info: Any) -> None:
        await self.aclose()
