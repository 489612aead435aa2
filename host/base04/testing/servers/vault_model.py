"""What a vault knows: secrets with versions, tokens with an end, roles. The stand-in answers from it."""

from __future__ import annotations

import secrets
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

Mode = Literal["active", "standby", "performance_standby", "disaster_recovery"]


class Refusal(Exception):
    """An answer that is no success: its status and what it says."""

    def __init__(self, status: int, *errors: str, document: dict[str, Any] | None = None) -> None:
        super().__init__(status, *errors)
        self.status = status
        self.document = document if document is not None else {"errors": list(errors)}


@dataclass(slots=True)
class Version:
    """One version of the secrets of a path; ``data`` is kept when it is deleted."""

    data: dict[str, Any]
    created: float
    deleted: float | None = None

    def metadata(self, number: int) -> dict[str, Any]:
        """Describe it as the KV engine does."""
        deleted = "" if self.deleted is None else _timestamp(self.deleted)
        return {
            "created_time": _timestamp(self.created),
            "custom_metadata": None,
            "deletion_time": deleted,
            "destroyed": False,
            "version": number,
        }


@dataclass(slots=True)
class VaultToken:
    """A token: when it ends, None for never, and how long it may be renewed at most."""

    text: str
    ttl: float
    ends: float | None
    latest_end: float | None
    renewable: bool


@dataclass(frozen=True, slots=True)
class Role:
    """Who may log in, and what token that gives; times in seconds."""

    proof: frozenset[str]
    ttl: float = 3600.0
    max_ttl: float = 86_400.0
    renewable: bool = True


@dataclass(slots=True)
class VaultModel:
    """All of it. ``clock_offset`` lets time pass at once, in seconds."""

    mount: str = "secret"
    kv_version: str = "2"
    mode: Mode = "active"
    sealed: bool = False
    initialized: bool = True
    clock_offset: float = 0.0
    versions: dict[str, dict[int, Version]] = field(default_factory=dict)
    tokens: dict[str, VaultToken] = field(default_factory=dict)
    approles: dict[str, Role] = field(default_factory=dict)
    kubernetes: dict[str, Role] = field(default_factory=dict)
    denied: set[str] = field(default_factory=set)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def now(self) -> float:
        """Return the vault's time."""
        return time.time() + self.clock_offset

    # Tokens

    def issue(self, role: Role) -> VaultToken:
        """Make a token."""
        return self._keep(role.ttl, role.max_ttl, role.renewable)

    def issue_root(self) -> VaultToken:
        """Make a token that never ends."""
        token = VaultToken(f"hvs.{secrets.token_urlsafe(18)}", 0.0, None, None, False)
        self.tokens[token.text] = token
        return token

    def _keep(self, ttl: float, max_ttl: float, renewable: bool) -> VaultToken:
        now = self.now()
        life = min(ttl, max_ttl)
        token = VaultToken(f"hvs.{secrets.token_urlsafe(18)}", ttl, now + life, now + max_ttl, renewable)
        self.tokens[token.text] = token
        return token

    def known(self, text: str | None) -> VaultToken:
        """Return a token that is alive."""
        token = self.tokens.get(text or "")
        if token is None or (token.ends is not None and token.ends <= self.now()):
            self.tokens.pop(text or "", None)
            raise Refusal(403, "permission denied", "invalid token")
        return token

    def renew(self, token: VaultToken) -> VaultToken:
        """Let a token live for its ttl again, though not beyond its greatest life."""
        if not token.renewable or token.ends is None or token.latest_end is None:
            raise Refusal(400, "lease is not renewable")
        token.ends = min(self.now() + token.ttl, token.latest_end)
        return token

    def remaining(self, token: VaultToken) -> int:
        """Return the whole seconds that a token still lives, 0 for one that never ends."""
        return 0 if token.ends is None else max(0, int(token.ends - self.now() + 0.5))

    # Secrets

    def read(self, path: str, number: int | None = None) -> dict[str, Any]:
        """Read a version of a path, the newest where none is named."""
        versions = self.versions.get(path)
        wanted = number or max(versions, default=0) if versions else 0
        if not versions or wanted not in versions:
            raise Refusal(404)
        version = versions[wanted]
        if version.deleted is not None:
            gone = {"data": None, "metadata": version.metadata(wanted)}
            raise Refusal(404, document={"data": gone})
        return {"data": version.data, "metadata": version.metadata(wanted)}

    def write(self, path: str, data: dict[str, Any], cas: int | None) -> dict[str, Any]:
        """Write a new version of a path, if it has the version that is expected."""
        versions = self.versions.setdefault(path, {})
        current = max(versions, default=0)
        if cas is not None and cas != current:
            if not versions:
                del self.versions[path]
            raise Refusal(400, "check-and-set parameter did not match the current version")
        versions[current + 1] = Version(data, self.now())
        for old in sorted(versions)[:-10]:
            del versions[old]
        return versions[current + 1].metadata(current + 1)

    def delete(self, path: str) -> None:
        """Delete the newest version of a path; it stays as one that was deleted."""
        versions = self.versions.get(path)
        if versions:
            newest = versions[max(versions)]
            newest.deleted = newest.deleted or self.now()

    def metadata(self, path: str) -> dict[str, Any]:
        """Describe all versions of a path."""
        versions = self.versions.get(path)
        if not versions:
            raise Refusal(404)
        numbers = sorted(versions)
        return {
            "cas_required": False,
            "current_version": numbers[-1],
            "oldest_version": numbers[0],
            "created_time": _timestamp(versions[numbers[0]].created),
            "updated_time": _timestamp(versions[numbers[-1]].created),
            "max_versions": 0,
            "versions": {str(number): versions[number].metadata(number) for number in numbers},
        }

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder; those of folders end in ``/``."""
        start = f"{folder}/" if folder else ""
        below = [path.removeprefix(start) for path in self.versions if path.startswith(start)]
        names = sorted({name.partition("/")[0] + ("/" if "/" in name else "") for name in below})
        if not names:
            raise Refusal(404)
        return names


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
