"""Who is counted, and under which keys."""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from typing import Final

from base04_hookspecs.context import RequestContext
from base04_hookspecs.redis import key_name

_SLOT: Final = "rate_limiter"
"""All keys of the rate limiter share a slot, because one script touches those of all levels."""

_LONGEST: Final = 180


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """One identifier of one limit type. ``entry`` tells it from all others, and is of bounded length."""

    limit_type: str
    identifier: str
    entry: str

    @property
    def is_short(self) -> bool:
        """Whether its identifier takes no more memory than an entry does."""
        return len(self.identifier) <= _LONGEST

    @property
    def ban_key(self) -> str:
        """The key of its ban, or of its violations."""
        return ban_key_of(self.entry)

    @property
    def count_prefix(self) -> str:
        """What the keys of its counts begin with; the limit follows."""
        limit_type, _, part = self.entry.partition(":")
        return key_name("count", limit_type, part, slot=_SLOT) + ":"


def subject_for(limit_type: str, identifier: str) -> Subject:
    """Return the subject of an identifier; that of an address is the address, or the /64 of an IPv6 one."""
    if limit_type == "ip":
        identifier = normalised_address(identifier) or identifier
    return Subject(limit_type, identifier, f"{limit_type}:{_key_part(identifier)}")


def ban_key_of(entry: str) -> str:
    """Return the key of the ban of a subject, or of its violations."""
    limit_type, _, part = entry.partition(":")
    return key_name("ban", limit_type, part, slot=_SLOT)


def normalised_address(text: str) -> str | None:
    """Return what an address is counted as, None where the text is no address.

    An IPv6 address counts as its /64, which is what one customer gets (RFC 6177); one that carries an IPv4 address
    counts as that. The /64 itself is accepted too.
    """
    address_text = text.removesuffix("/64") if ":" in text else text
    try:
        address = ipaddress.ip_address(address_text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(address), 64), strict=False))


def requested_identifier(limit_type: str, request: RequestContext | None) -> str | None:
    """Return who the present request is counted as, None where it does not say."""
    if request is None:
        return None
    if limit_type == "ip":
        return request.client_ip or None
    if limit_type == "user":
        return request.principal.user_id or None
    if limit_type == "api_key":
        return request.principal.api_key_id or None
    return None


def _key_part(identifier: str) -> str:
    """Return an identifier as one part of a key: without colons, and neither long nor of unusual characters."""
    if len(identifier) <= _LONGEST and identifier.isascii() and identifier.isprintable():
        part = identifier.replace("%", "%25").replace(":", "%3A")
        if part and len(part) <= _LONGEST:
            return part
    return "sha256:" + hashlib.sha256(identifier.encode("utf-8", "surrogatepass")).hexdigest()
