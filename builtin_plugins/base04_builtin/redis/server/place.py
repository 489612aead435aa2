"""Where the servers are, as a URL says it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

Address = tuple[str, int]
"""Host and port; a Unix socket is its path and 0."""

Kind = Literal["single", "sentinel", "cluster"]

_KINDS: Final[dict[str, tuple[Kind, bool]]] = {
    "redis": ("single", False),
    "rediss": ("single", True),
    "unix": ("single", False),
    "redis+sentinel": ("sentinel", False),
    "rediss+sentinel": ("sentinel", True),
    "redis+cluster": ("cluster", False),
    "rediss+cluster": ("cluster", True),
}
_PORTS: Final[dict[Kind, int]] = {"single": 6379, "sentinel": 26379, "cluster": 6379}
_FORMS: Final = (
    "write 'redis://host:port/db', 'rediss://...' for TLS, 'unix:///path?db=0', "
    "'redis+sentinel://host:port,host:port/service/db' or 'redis+cluster://host:port,host:port', "
    "and percent-encode what is special in a password"
)


@dataclass(frozen=True, slots=True)
class Place:
    """What a URL says. ``nodes`` are the server, the sentinels, or some nodes of the cluster."""

    kind: Kind
    tls: bool
    nodes: tuple[Address, ...]
    db: int = 0
    service: str | None = None
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)


def parse_place(url: str) -> Place:
    """Read a URL.

    Raises:
        ValueError: it cannot be read; the message holds nothing of it, since a password may be anywhere in it.
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        raise ValueError(f"the URL cannot be read: {_FORMS}") from None
    if parts.scheme not in _KINDS:
        raise ValueError(f"the URL has another scheme: {_FORMS}")
    kind, tls = _KINDS[parts.scheme]
    credentials, _, hosts = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    service, db = _path(parts, kind)
    if parts.scheme == "unix":
        nodes: tuple[Address, ...] = ((unquote(parts.path), 0),)
    else:
        nodes = tuple(parse_address(host, _PORTS[kind]) for host in hosts.split(",") if host)
    if kind == "single" and len(nodes) > 1:
        raise ValueError("the URL names several hosts: write 'redis+cluster://' or 'redis+sentinel://'")
    return Place(kind, tls, nodes, db, service, unquote(username) or None, unquote(password) or None)


def parse_address(text: str, port: int) -> Address:
    """Read ``host:port``, ``host`` or ``[address]:port``.

    Raises:
        ValueError: it is written otherwise; the message does not repeat it.
    """
    host, colon, number = text.rpartition(":")
    if not colon or text.endswith("]"):
        host, number = text, str(port)
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not host or not (number.isascii() and number.isdecimal()) or not 0 < int(number) < 65536:
        raise ValueError(f"a host or its port cannot be read: {_FORMS}")
    return unquote(host), int(number)


def _path(parts: SplitResult, kind: Kind) -> tuple[str | None, int]:
    """Return the service and the number of the database."""
    query = parse_qs(parts.query, keep_blank_values=True)
    if query.keys() - {"db"} or parts.fragment:
        raise ValueError("the URL says more than a database after '?' or '#': write that as settings of their own")
    if parts.scheme == "unix":
        if not parts.path or parts.netloc.rpartition("@")[2]:
            raise ValueError("the URL names no path: write 'unix:///path?db=0'")
        segments = []
    else:
        segments = [unquote(segment) for segment in parts.path.split("/") if segment]
    service = segments.pop(0) if kind == "sentinel" and segments else None
    segments += query.get("db", [])
    if not segments:
        return service, 0
    if len(segments) > 1 or not (segments[0].isascii() and segments[0].isdecimal()):
        raise ValueError(f"the database of the URL is no number: {_FORMS}")
    return service, int(segments[0])
