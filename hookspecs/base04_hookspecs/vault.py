"""The role ``vault``: secrets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import ClassVar, TypedDict

from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import hookspec
from base04_hookspecs.provider import Provider

RotationCallback = Callable[[str], Awaitable[None] | None]
"""Called with the path of a secret that has changed."""


class VaultConnectionInfo(TypedDict):
    """Where secrets come from; holds none. ``authenticated`` tells whether the vault accepts this process."""

    provider: str
    address: str
    authentication: str
    authenticated: bool


class VaultManager(Manager):
    """Reads, writes and watches secrets: strings at a path and a key, as in ``app/database``, ``password``.

    Capabilities: ``versions`` (old values are kept), ``watch`` (rotations are announced), ``shared`` (several processes
    see the same secrets, and of two that create one at once only one wins).
    """

    role: ClassVar[str] = "vault"
    one_for_all: ClassVar[bool] = True

    @abstractmethod
    async def get_secret_value(self, path: str, key: str) -> str:
        """Return a secret.

        Raises:
            NotFound: there is no such path or key; the message names both.
            PermissionDenied: the vault refuses it to this process.
            ManagerUnavailable: the vault is sealed or cannot be reached.
        """

    @abstractmethod
    async def set_secret_value(self, path: str, key: str, value: str) -> bool:
        """Store a secret durably, keep the other keys of the path, and return True."""

    @abstractmethod
    async def create_secret_value(self, path: str, key: str, value: str) -> str:
        """Store a secret where there is none, and return the one that is there now: the first writer wins."""

    @abstractmethod
    async def delete_secret(self, path: str) -> bool:
        """Delete all keys of a path and tell whether there were any."""

    @abstractmethod
    async def list_secrets(self, prefix: str = "") -> list[str]:
        """Return the paths that begin with the prefix, sorted; no values."""

    @abstractmethod
    async def watch_secret(self, path: str, callback: RotationCallback) -> bool:
        """Call back when a secret of the path has changed, by this process or another."""

    @abstractmethod
    async def get_connection_info(self) -> VaultConnectionInfo:
        """Return where secrets come from."""


@hookspec
def vault_providers() -> Iterable[Provider]:
    """Offer providers of the role ``vault``.

    The host calls each implementation once, when it discovers plugins. None or an empty iterable offers nothing.
    """
