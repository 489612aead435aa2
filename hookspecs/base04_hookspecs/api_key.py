"""The role ``api_key``: keys for programs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, TypedDict

from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import hookspec
from base04_hookspecs.provider import Provider


class ApiKeyInfo(TypedDict):
    """What is known of a key; never the key itself. Times are seconds since the epoch.

    Uses that another process has not written yet are not in ``last_used_at`` and ``use_count``.
    """

    key_id: str
    user_id: str
    name: str
    permissions: list[str]
    rate_limit: str | None
    created_at: float
    expires_at: float | None
    revoked_at: float | None
    last_used_at: float | None
    use_count: int


class ApiKeyManager(Manager):
    """Generates, validates and revokes API keys. A key is shown once; only a keyed hash of it is kept.

    Methods that take a key to manage it also take its public ``key_id``.
    """

    role: ClassVar[str] = "api_key"

    @abstractmethod
    async def generate_api_key(
        self,
        user_id: str,
        permissions: Sequence[str] | None = None,
        *,
        name: str = "",
        expires_in: float | None = None,
        rate_limit: str | None = None,
    ) -> str:
        """Create a key and return it; it cannot be had again. ``expires_in`` is in seconds.

        Within a request, a key can grant no more than the caller holds, and for a caller who was let in by a key, not
        for longer: without ``expires_in`` it ends with that key.

        Raises:
            InvalidInput: the user id is empty, a permission or the rate limit is malformed.
            PermissionDenied: the caller does not hold one of the permissions, or not for that long.
        """

    @abstractmethod
    async def validate_api_key(self, api_key: str) -> ApiKeyInfo:
        """Return what is known of a key that is valid now.

        Raises:
            InvalidApiKey: for every other key; its subclass and ``reason`` say why, for the program and its log.
        """

    @abstractmethod
    async def revoke_api_key(self, api_key: str) -> bool:
        """Revoke a key durably; False where there is none or it is revoked already."""

    @abstractmethod
    async def roll_api_key(self, api_key: str, *, overlap: float = 0.0) -> str:
        """Create a key that takes the place of another, which goes on for ``overlap`` seconds, and return it.

        Raises:
            NotFound: there is no such key, or it is revoked or expired.
        """

    @abstractmethod
    async def get_api_key_info(self, api_key: str) -> ApiKeyInfo:
        """Return what is known of a key, valid or not.

        Raises:
            NotFound: there is no such key.
        """

    @abstractmethod
    async def update_api_key_permissions(self, api_key: str, permissions: Sequence[str]) -> bool:
        """Replace the permissions of a key; False where there is none. Within a request as ``generate_api_key``."""

    @abstractmethod
    async def list_api_keys(
        self, user_id: str | None = None, *, limit: int = 100, offset: int = 0, include_revoked: bool = False
    ) -> list[ApiKeyInfo]:
        """Return keys, newest first, of one user or all."""


@hookspec
def api_key_providers() -> Iterable[Provider]:
    """Offer providers of the role ``api_key``.

    The host calls each implementation once, when it discovers plugins. None or an empty iterable offers nothing.
    """
