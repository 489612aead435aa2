"""Which permissions a key may have, and who may give them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from base04_hookspecs.context import RequestContext, current_request, grants
from base04_hookspecs.errors import Fault, InvalidInput, PermissionDenied

_PATTERN: Final = re.compile(r"(?:\*|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*(?:\.\*)?)", re.ASCII)
_MAX_LENGTH: Final = 128
_MAX_COUNT: Final = 256


def checked_permissions(permissions: Sequence[str] | None) -> list[str]:
    """Return the permissions, each once, in the order given.

    Raises:
        InvalidInput: one is not dotted words, such as ``users.write``, ``users.*`` or ``*``; all faults are listed.
    """
    if permissions is None:
        return []
    if isinstance(permissions, str | bytes) or not isinstance(permissions, Sequence):
        raise InvalidInput(f"The permissions must be a list of strings, not {type(permissions).__name__}.")
    if len(permissions) > _MAX_COUNT:
        raise InvalidInput(f"A key can have at most {_MAX_COUNT} permissions, not {len(permissions)}.")
    faults = [
        Fault(f"/{index}", f"{permission!r} is not a permission")
        for index, permission in enumerate(permissions)
        if not _is_permission(permission)
    ]
    if faults:
        listed = ", ".join(fault.message for fault in faults)
        raise InvalidInput(f"{listed}: write dotted words, such as 'users.write', 'users.*' or '*'.", faults)
    return list(dict.fromkeys(permissions))


def check_caller_may_give(permissions: Sequence[str]) -> None:
    """Within a request, refuse permissions that the caller does not hold.

    The owner of the machine (``local``), and a program outside of any request, may give all.

    Raises:
        PermissionDenied: the caller lacks some; ``missing`` lists them.
    """
    request = current_request()
    if request is None or _is_trusted(request):
        return
    missing = [permission for permission in permissions if not grants(request.principal.permissions, permission)]
    if missing:
        raise PermissionDenied(
            f"A key can grant no more than who makes it holds, and the caller lacks: {', '.join(missing)}.", missing
        )


def caller_key_id() -> str | None:
    """Return the key that let the caller in, directly or through a token; None where there was none."""
    request = current_request()
    return None if request is None else request.principal.api_key_id


def _is_trusted(request: RequestContext) -> bool:
    if request.principal.method == "local":
        return True
    return not request.principal.authenticated and request.source in ("cli", "program")


def _is_permission(permission: object) -> bool:
    return isinstance(permission, str) and len(permission) <= _MAX_LENGTH and _PATTERN.fullmatch(permission) is not None
