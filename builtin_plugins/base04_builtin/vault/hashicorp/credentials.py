"""How this process proves to the vault who it is. Everything here blocks, so it runs in worker threads."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Final

from base04_builtin.vault.hashicorp.client import Lease, VaultClient
from base04_builtin.vault.hashicorp.settings import AppRoleSettings, HashicorpVaultSettings, KubernetesSettings
from base04_hookspecs.errors import ConfigurationError, InvalidInput, PermissionDenied

_LONGEST_FILE: Final = 65_536


class Credentials(ABC):
    """A way to get a token. ``name`` is for people; ``own`` tells whether the token is this process's own."""

    name: str
    own: bool = True

    @abstractmethod
    def log_in(self, client: VaultClient) -> Lease:
        """Get a token, reading what is in files anew.

        Raises:
            PermissionDenied: the vault does not accept the credentials.
            ConfigurationError: a file cannot be read.
        """


class TokenCredentials(Credentials):
    """A token from the settings, or from a file that somebody else (an agent) keeps fresh."""

    name, own = "token", False

    def __init__(self, token: str, file: Path | None) -> None:
        self._token, self._file = token, file

    def log_in(self, client: VaultClient) -> Lease:
        """Ask the vault how long the token lives."""
        client.use_token(_content(self._file, "token_file") if self._file is not None else self._token)
        try:
            return client.look_up_token()
        except PermissionDenied as error:
            remedy = f"put a new one into {self._file}" if self._file else "put a new one into the settings"
            raise PermissionDenied(
                f"The vault does not accept the token: it is wrong or has ended; {remedy}."
            ) from error


class AppRoleCredentials(Credentials):
    """The id of a role and a secret id."""

    name = "approle"

    def __init__(self, settings: AppRoleSettings) -> None:
        self._settings = settings

    def log_in(self, client: VaultClient) -> Lease:
        """Log in at the AppRole method."""
        given = self._settings
        secret_id = given.secret_id.get_secret_value() if given.secret_id else None
        if given.secret_id_file is not None:
            secret_id = _content(given.secret_id_file, "secret_id_file")
        try:
            return client.log_in_as_approle(given.role_id, secret_id, given.mount)
        except InvalidInput as error:
            raise PermissionDenied(
                f"{error} Check role_id and secret_id; a secret id may have been used up."
            ) from error


class KubernetesCredentials(Credentials):
    """The token of the pod's service account."""

    name = "kubernetes"

    def __init__(self, settings: KubernetesSettings) -> None:
        self._settings = settings

    def log_in(self, client: VaultClient) -> Lease:
        """Log in at the Kubernetes method with the token that the file holds now."""
        given = self._settings
        jwt = _content(given.token_file, "token_file")
        try:
            return client.log_in_with_kubernetes(given.role, jwt, given.mount)
        except InvalidInput as error:
            raise PermissionDenied(f"{error} Check the role {given.role!r} and what it is bound to.") from error


def credentials(settings: HashicorpVaultSettings) -> Credentials:
    """Return the one way to log in that the settings name."""
    if settings.approle is not None:
        return AppRoleCredentials(settings.approle)
    if settings.kubernetes is not None:
        return KubernetesCredentials(settings.kubernetes)
    token = settings.token.get_secret_value() if settings.token is not None else ""
    return TokenCredentials(token, settings.token_file)


def _content(file: Path, name: str) -> str:
    try:
        with file.open("rb") as opened:
            content = opened.read(_LONGEST_FILE)
    except OSError as error:
        raise ConfigurationError(f"The {name} {str(file)!r} cannot be read: {error.strerror}.") from error
    text = content.decode("utf-8", errors="replace").strip()
    if not text or not text.isprintable():
        raise ConfigurationError(f"The {name} {str(file)!r} is empty or holds something else than one line of text.")
    return text
