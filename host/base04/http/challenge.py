"""``WWW-Authenticate``, as RFC 6750, section 3 says."""

from __future__ import annotations

import re
from typing import Final

from starlette.exceptions import HTTPException

from base04_hookspecs import errors

_REALM: Final = 'Bearer realm="base04"'
_SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+\Z")
"""What a scope may be made of (RFC 6749, section 3.3)."""


class OAuthError(HTTPException):
    """A refusal of the routes for tokens, with a ``code`` of RFC 6749, section 5.2; status 400."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(400, detail, {"Cache-Control": "no-store"})
        self.code = code


class InvalidRequest(HTTPException):
    """The request shows who is calling in a way that is not allowed; 400, as RFC 6750, section 3.1 says."""

    def __init__(self, detail: str) -> None:
        challenge = f'{_REALM}, error="invalid_request", error_description="{detail}"'
        super().__init__(400, detail, {"WWW-Authenticate": challenge})


def challenge(error: errors.AuthenticationError | errors.PermissionDenied) -> str:
    """Say how to authenticate, and what is wrong where a token was shown; nothing of the reason."""
    if isinstance(error, errors.InvalidToken):
        return f'{_REALM}, error="invalid_token", error_description="invalid token"'
    if isinstance(error, errors.PermissionDenied):
        scopes = " ".join(name for name in error.missing if _SCOPE.match(name))
        described = f'{_REALM}, error="insufficient_scope", error_description="permissions are missing"'
        return f'{described}, scope="{scopes}"' if scopes else described
    return _REALM
