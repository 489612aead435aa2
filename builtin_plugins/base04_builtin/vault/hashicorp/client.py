"""All requests to the vault. Everything here blocks, so it runs in worker threads."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import requests
from hvac.adapters import JSONAdapter, RawAdapter
from hvac.api.auth_methods import AppRole, Kubernetes, Token
from hvac.api.secrets_engines import KvV2
from hvac.api.system_backend.health import Health
from hvac.exceptions import VaultError

from base04_builtin.vault.hashicorp.faults import translated
from base04_builtin.vault.hashicorp.settings import HashicorpVaultSettings
from base04_hookspecs.errors import Base04Error, ConfigurationError, ManagerUnavailable, NotFound

T = TypeVar("T")

_ABSENT: Final = 0


@dataclass(frozen=True, slots=True)
class Lease:
    """A token and how long it lives: ``ttl`` in seconds, 0 for ever."""

    token: str = field(repr=False)
    ttl: float
    renewable: bool


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a path holds: its version, 0 where there never was one, and its keys, None where there is nothing now."""

    version: int
    data: dict[str, Any] | None = field(repr=False)


Signature = tuple[object, ...]
"""What changes with the secrets of a path."""


class VaultClient:
    """One request for each method, with hvac's own classes.

    Its adapters are made here and not by ``hvac.Client``, which would take token, address and certificates from the
    environment and from ``~/.vault-token``.
    """

    def __init__(self, settings: HashicorpVaultSettings) -> None:
        self._mount = settings.mount
        self._session = _Session(settings)
        common: dict[str, Any] = {
            "base_uri": settings.address,
            "session": self._session,
            "timeout": settings.timeout,
            "strict_http": True,
        }
        self._adapter = JSONAdapter(token="", namespace=settings.namespace, **common)
        self._kv = KvV2(self._adapter)
        self._tokens = Token(self._adapter)
        strangers = JSONAdapter(token="", namespace=settings.namespace, **common)
        self._approle, self._kubernetes = AppRole(strangers), Kubernetes(strangers)
        self._health = Health(RawAdapter(token="", **common))  # answers outside of namespaces, and to everybody

    def use_token(self, token: str) -> None:
        """Send this token from now on."""
        self._adapter.token = token

    def close(self) -> None:
        """Close idle connections."""
        self._session.close()

    def health_status(self) -> int:
        """Return the status code of ``sys/health``: 200, 429, 472, 473, 501 or 503."""
        answer = _asked("tell its health", lambda: self._health.read_health_status(method="GET"))
        return int(answer.status_code)

    def log_in_as_approle(self, role_id: str, secret_id: str | None, mount: str) -> Lease:
        """Log in and return the new token."""
        task = f"let the AppRole in at auth/{mount}"
        step = lambda: self._approle.login(role_id, secret_id, use_token=False, mount_point=mount)  # noqa: E731
        return _lease(_document(task, step, hidden=(role_id, secret_id or ""))["auth"])

    def log_in_with_kubernetes(self, role: str, jwt: str, mount: str) -> Lease:
        """Log in and return the new token."""
        task = f"let the Kubernetes role {role!r} in at auth/{mount}"
        step = lambda: self._kubernetes.login(role, jwt, use_token=False, mount_point=mount)  # noqa: E731
        return _lease(_document(task, step, hidden=(jwt,))["auth"])

    def look_up_token(self) -> Lease:
        """Return how long the token in use lives; PermissionDenied where the vault does not know it."""
        found = _document("accept the token", self._tokens.lookup_self)["data"]
        ttl = max(float(found["ttl"]), 0.0 if found.get("expire_time") is None else 1.0)  # whole seconds, cut off
        return Lease(str(self._adapter.token), ttl, bool(found.get("renewable")))

    def renew_token(self) -> Lease:
        """Renew the token in use; one at the end of its greatest life gets next to nothing."""
        renewed = _lease(_document("renew the token", self._tokens.renew_self)["auth"])
        return replace(renewed, ttl=max(renewed.ttl, 0.001))

    def revoke_token(self) -> None:
        """Revoke the token in use."""
        _asked("revoke the token", self._tokens.revoke_self)

    def read(self, path: str, version: int | None = None) -> Snapshot:
        """Return what a path holds, or held."""

        def step() -> Any:
            return self._kv.read_secret_version(path, version, self._mount, raise_on_deleted_version=False)

        try:
            found = _document(f"read the secret at {path!r}", step)["data"]
        except NotFound:
            return Snapshot(_ABSENT, None)
        return Snapshot(int(found["metadata"]["version"]), found.get("data"))

    def write(self, path: str, data: dict[str, Any], cas: int) -> None:
        """Store all keys of a path where it still has the version ``cas``; Conflict where it has not."""
        hidden = [value for value in data.values() if isinstance(value, str)]
        _asked(
            f"store the secret at {path!r}",
            lambda: self._kv.create_or_update_secret(path, data, cas, self._mount),
            writes=True,
            hidden=hidden,
        )

    def delete(self, path: str) -> None:
        """Delete the newest version of a path; older ones stay, as the vault is configured to keep them."""
        _asked(
            f"delete the secret at {path!r}",
            lambda: self._kv.delete_latest_version_of_secret(path, self._mount),
            writes=True,
        )

    def list_folder(self, folder: str) -> list[str]:
        """Return the names in a folder; those of folders end in ``/``."""
        try:
            found = _document(f"list the secrets at {folder!r}", lambda: self._kv.list_secrets(folder, self._mount))
        except NotFound:
            return []
        return [str(name) for name in found["data"]["keys"]]

    def signature(self, path: str) -> Signature | None:
        """Return what changes with the secrets of a path, None where there are none; no secret is read."""
        task = f"read the metadata of {path!r}"
        try:
            found = _document(task, lambda: self._kv.read_secret_metadata(path, self._mount))["data"]
        except NotFound:
            return None
        number = found["current_version"]
        version = (found.get("versions") or {}).get(str(number)) or {}
        if version.get("deletion_time") or version.get("destroyed"):
            return None
        return (number, version.get("created_time"))

    def check_engine(self) -> None:
        """Raise ConfigurationError where the mount is known to be something else than KV version 2."""
        task = f"describe the mount {self._mount!r}"
        found = _document(task, lambda: self._adapter.get(f"/v1/sys/internal/ui/mounts/{self._mount}"))["data"]
        kind, version = found.get("type"), (found.get("options") or {}).get("version")
        if kind not in (None, "kv") or (kind == "kv" and version != "2"):
            raise ConfigurationError(
                f"The mount {self._mount!r} of the vault is {kind!r} with version {version!r}, and this provider needs "
                f"the KV engine with version 2: name it as 'mount', or run: vault kv enable-versioning {self._mount}"
            )


class _Session(requests.Session):
    """Takes nothing from the environment, and never follows a redirect from https to http."""

    def __init__(self, settings: HashicorpVaultSettings) -> None:
        super().__init__()
        self.trust_env = False
        self.verify = str(settings.ca) if settings.ca else True
        if settings.client_certificate and settings.client_key:
            self.cert = (str(settings.client_certificate), str(settings.client_key))
        if settings.proxy:
            self.proxies = {"http": settings.proxy, "https": settings.proxy}

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where to go on, which a standby names; None where that would be open to everybody on the way."""
        target = super().get_redirect_target(resp)
        if target and urlsplit(resp.url).scheme == "https" and urlsplit(target).scheme == "http":
            return None
        return target


def _asked(task: str, step: Callable[[], T], *, writes: bool = False, hidden: Iterable[str] = ()) -> T:
    """Take a step, and raise the contract's error alone where it fails, without the request in its chain."""
    failure: Base04Error
    try:
        return step()
    except (VaultError, requests.RequestException) as error:
        failure = translated(error, task, writes=writes, hidden=hidden)
    except OSError as error:
        failure = ConfigurationError(f"The vault cannot be asked to {task}: {error.strerror or error}.")
    raise failure


def _document(task: str, step: Callable[[], Any], *, hidden: Iterable[str] = ()) -> dict[str, Any]:
    found = _asked(task, step, hidden=hidden)
    if not isinstance(found, dict):
        status = getattr(found, "status_code", None)
        raise ManagerUnavailable(f"The vault did not {task}: it answered with the status {status} and no document.")
    return found


def _lease(auth: dict[str, Any]) -> Lease:
    return Lease(str(auth["client_token"]), float(auth["lease_duration"]), bool(auth["renewable"]))
