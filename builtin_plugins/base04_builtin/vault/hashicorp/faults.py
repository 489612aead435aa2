"""From what hvac and requests raise to the errors of the contract.

Their exceptions carry the request, with its token and its body, so they are never chained to ours.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Iterator
from typing import Final

from hvac import exceptions as vault
from requests import exceptions as http

from base04_hookspecs.errors import (
    Base04Error,
    ConfigurationError,
    Conflict,
    InvalidInput,
    ManagerUnavailable,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
)

_LONGEST_TEXT: Final = 300
_UNSENT: Final = (http.ConnectTimeout, http.ProxyError)


def translated(error: Exception, task: str, *, writes: bool, hidden: Iterable[str] = ()) -> Base04Error:
    """Return the contract's error for one that hvac or requests raised.

    Args:
        error: what was raised.
        task: what was being done, as in ``read the secret at 'app/database'``.
        writes: whether it would have changed something, so that a lost reply leaves it open whether it did.
        hidden: secrets that were sent, which the vault may repeat in its reply.
    """
    if isinstance(error, vault.VaultError):
        return _refused(error, task, writes, hidden)
    if isinstance(error, http.RequestException):
        return _unreachable(error, task, writes)
    return ManagerUnavailable(f"The vault could not {task}: {type(error).__name__}.")


def _refused(error: vault.VaultError, task: str, writes: bool, hidden: Iterable[str]) -> Base04Error:
    said = _said(error, hidden)
    match error:
        case vault.Forbidden() | vault.Unauthorized():
            return PermissionDenied(f"The vault refuses to {task}: {said}. See which policies the token has.")
        case vault.InvalidPath():
            return NotFound(f"The vault cannot {task}: there is no such path ({said}).")
        case vault.InvalidRequest():
            if "check-and-set" in said:
                return Conflict(f"The vault did not {task}: somebody else has changed it.")
            return InvalidInput(f"The vault does not accept the request to {task}: {said}.")
        case vault.VaultDown():
            return ManagerUnavailable(f"The vault cannot {task}: {said}.", retry_after=5.0)
        case vault.RateLimitExceeded() | vault.VaultNotInitialized():
            return ManagerUnavailable(f"The vault does not {task} now: {said}.", retry_after=5.0)
        case _ if writes:
            return OutcomeUnknown(f"The vault failed to {task} and may have done so: {said}.")
        case _:
            return ManagerUnavailable(f"The vault failed to {task}: {said}.")


def _unreachable(error: http.RequestException, task: str, writes: bool) -> Base04Error:
    reasons = list(_reasons(error))
    refused = next((item for item in reasons if isinstance(item, ssl.SSLCertVerificationError)), None)
    if refused is not None:
        return ConfigurationError(
            f"The certificate of the vault is not trusted ({refused.verify_message}), so nothing was sent to it. "
            "Name the certificate of its authority as 'ca' in the settings, or correct the address."
        )
    if not isinstance(
        error, http.ConnectionError | http.Timeout | http.ChunkedEncodingError | http.ContentDecodingError
    ):
        return ConfigurationError(f"The vault cannot be asked to {task}: {type(error).__name__}. See its settings.")
    unsent = isinstance(error, _UNSENT) or any(type(item).__name__ == "NewConnectionError" for item in reasons)
    why = "it did not answer in time" if isinstance(error, http.Timeout) else _innermost(reasons)
    if writes and not unsent:
        return OutcomeUnknown(f"The connection to the vault broke ({why}), so it may or may not {task}.")
    return ManagerUnavailable(f"The vault cannot be reached to {task}: {why}.")


def _reasons(error: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what caused it; urllib3 also keeps causes in ``args`` and ``reason``."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        found = waiting.pop()
        if found is None or id(found) in seen:
            continue
        seen.add(id(found))
        yield found
        inner = [*found.args, getattr(found, "reason", None)]
        waiting += [item for item in inner if isinstance(item, BaseException)]
        waiting += [found.__cause__, found.__context__]


def _innermost(reasons: list[BaseException]) -> str:
    system = next((item for item in reasons if isinstance(item, OSError) and item.strerror), None)
    return system.strerror.lower() if system is not None and system.strerror else "the connection was closed"


def _said(error: vault.VaultError, hidden: Iterable[str]) -> str:
    errors = error.errors if isinstance(error.errors, list) else []
    text = "; ".join(str(item) for item in errors) or "it gave no reason"
    for secret in hidden:
        if secret:
            text = text.replace(secret, "***")
    return " ".join(text.split())[:_LONGEST_TEXT].rstrip(".")
