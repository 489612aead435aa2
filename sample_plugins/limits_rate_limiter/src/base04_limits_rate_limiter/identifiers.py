"""Who is counted."""

from __future__ import annotations

import ipaddress

from base04_hookspecs import RequestContext


def from_request(limit_type: str, request: RequestContext | None) -> str | None:
    """Return who the present request is counted as, None where it does not say."""
    if request is None:
        return None
    found = {
        "ip": request.client_ip,
        "user": request.principal.user_id,
        "api_key": request.principal.api_key_id,
    }
    return found.get(limit_type) or None


def normalise(limit_type: str, identifier: str) -> str:
    """Return what an identifier is counted as: an address in one spelling, an IPv6 one as its /64."""
    return (address(identifier) or identifier) if limit_type == "ip" else identifier


def address(text: str) -> str | None:
    """Return what an address is counted as, None where the text is none (RFC 6177: a customer has a /64)."""
    try:
        found = ipaddress.ip_address(text.removesuffix("/64") if ":" in text else text)
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is None:
            return str(ipaddress.IPv6Network((int(found), 64), strict=False))
        found = found.ipv4_mapped
    return str(found)
