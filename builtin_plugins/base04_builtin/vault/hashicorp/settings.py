"""The settings of the provider ``hashicorp``."""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, model_validator

from base04_hookspecs.settings import DataPath, Duration, ManagerSettings

_MOUNT: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*(?:/[A-Za-z0-9_][A-Za-z0-9_.-]*)*\Z")


def _mount(name: str) -> str:
    name = name.strip("/")
    if not _MOUNT.match(name):
        raise ValueError("write the path of the mount as 'vault secrets list' or 'vault auth list' shows it")
    return name


def _address(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("write an address such as 'https://vault.example.com:8200'")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("an address holds no user, password, query or fragment")
    return address.rstrip("/")


Mount = Annotated[str, AfterValidator(_mount)]
Address = Annotated[str, AfterValidator(_address)]


class AppRoleSettings(ManagerSettings):
    """Log in as an AppRole; the secret id comes from the settings or from a file, which is read at each login."""

    role_id: str
    secret_id: SecretStr | None = None
    secret_id_file: Path | None = None
    mount: Mount = "approle"

    @model_validator(mode="after")
    def _one_secret_id(self) -> Self:
        if self.secret_id is not None and self.secret_id_file is not None:
            raise ValueError("give secret_id or secret_id_file, not both")
        return self


class KubernetesSettings(ManagerSettings):
    """Log in with the token of the pod's service account; its file is read at each login, since it is exchanged."""

    role: str
    token_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    mount: Mount = "kubernetes"


class FallbackSettings(ManagerSettings):
    """A secrets file, as the provider ``file`` keeps it, to read from while the vault is sealed or out of reach."""

    path: DataPath


class HashicorpVaultSettings(ManagerSettings):
    """Where the vault is, who this process is there, and how long anything may take.

    Nothing is taken from ``VAULT_ADDR``, ``VAULT_TOKEN``, ``~/.vault-token``, ``~/.netrc`` or proxy variables.
    """

    address: Address
    plain_http: bool = False
    """Whether an address that begins with ``http:`` may name another machine: secrets then cross the network openly."""

    token: SecretStr | None = None
    token_file: Path | None = None
    approle: AppRoleSettings | None = None
    kubernetes: KubernetesSettings | None = None

    mount: Mount = "secret"
    """Where the KV engine, version 2, is mounted."""

    namespace: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$")
    ca: Path | None = None
    """A file with the certificates to trust instead of those that come with Python's certifi."""

    client_certificate: Path | None = None
    client_key: Path | None = None
    proxy: str | None = None

    timeout: Duration = 10.0
    """How long one call may take, logging in included."""

    threads: int = Field(default=4, ge=1, le=64)
    """The most requests at the same time."""

    cache_ttl: Duration = 30.0
    """How long a secret that was read is returned without asking again."""

    watch_interval: Duration = 30.0
    """How often watched paths are looked at; each look comes up to a fifth sooner or later."""

    revoke_on_stop: bool = True
    """Whether a token that this process got by logging in is revoked when it stops."""

    fallback: FallbackSettings | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        ways = [name for name in ("token", "token_file", "approle", "kubernetes") if getattr(self, name) is not None]
        if len(ways) != 1:
            given = " and ".join(ways) or "none of them"
            raise ValueError(f"give exactly one of token, token_file, approle and kubernetes; there is {given}")
        if (self.client_certificate is None) != (self.client_key is None):
            raise ValueError("client_certificate and client_key belong together")
        if self.address.startswith("http:") and not self.plain_http and not _is_loopback(self.address):
            raise ValueError("the address is not https: write https, or 'plain_http: true' if the network is trusted")
        return self


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
