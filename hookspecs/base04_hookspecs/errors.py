"""The errors that managers and plugins raise and that callers catch.

::

    Base04Error
    ├── ConfigurationError          settings, contracts or registrations that cannot work
    ├── ManagerError                a manager could not do what it was asked
    │   ├── ManagerUnavailable      its backend cannot be reached just now; trying again later makes sense
    │   │   └── NotReady            what a plugin needs is not there yet; the host tries its step again by itself
    │   ├── OutcomeUnknown          the backend may or may not have done it
    │   ├── NotSupported            this provider does not have that part of the contract
    │   ├── InvalidInput            what was given cannot be accepted; carries every fault
    │   ├── NotFound                there is no such thing
    │   │   └── HistoryPruned       it was there, and is kept no more
    │   └── Conflict                the thing changed, exists already, or does not allow this now
    │       └── VersionConflict     it has another version than the expected one
    ├── AuthenticationError         the caller did not prove who they are
    │   ├── InvalidToken            with ``reason``, which is for the log alone
    │   │   ├── MalformedToken      it is not what a token of this issuer looks like
    │   │   ├── UntrustedToken      no key that is known has signed it
    │   │   ├── MisusedToken        it is of another type, issuer or audience
    │   │   ├── ExpiredToken        it has ended
    │   │   ├── ImmatureToken       it is not valid yet
    │   │   └── RevokedToken        it was stopped before its end
    │   │       └── ReusedToken     a refresh token came a second time
    │   └── InvalidApiKey           with ``reason``, which is for the log alone
    │       ├── MalformedApiKey     its form or its checksum is wrong
    │       ├── UnknownApiKey       there is no such key
    │       ├── ExpiredApiKey       it has ended
    │       └── RevokedApiKey       it was stopped before its end
    ├── PermissionDenied            the caller is known and may not do it
    ├── RateLimited                 too many calls; carries ``retry_after``
    └── ActionError
        ├── UnknownAction           with close matches
        ├── ActionBusy              it runs as often as it may at once; carries ``retry_after``
        ├── ActionTimeout           the handler took longer than its action allows
        └── ActionFailed            the handler raised, or returned what its action does not declare

Messages never hold a secret. Over HTTP each class has one status and one problem type.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


class Base04Error(Exception):
    """The base of every error that Base04 raises on purpose."""


class ConfigurationError(Base04Error):
    """Settings, a contract or a registration cannot work; the message says what to write instead."""


class ManagerError(Base04Error):
    """A manager could not do what it was asked."""


class ManagerUnavailable(ManagerError):
    """The backend of a manager cannot be reached just now.

    ``retry_after`` is a number of seconds after which another try makes sense.
    """

    def __init__(self, message: str, *, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class NotReady(ManagerUnavailable):
    """What a plugin needs is not there yet.

    Raised from a ``startup`` step, or from a hook that is asked for what it contributes, it has the host try again in
    the background, as every ``ManagerUnavailable`` there does.
    """


class OutcomeUnknown(ManagerError):
    """The connection broke after the backend was told to act: it may or may not have done so."""


class NotSupported(ManagerError):
    """The provider does not have this part of its contract; its capabilities say so beforehand."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong with a value; ``pointer`` is a JSON pointer (RFC 6901) to it."""

    pointer: str
    message: str


class InvalidInput(ManagerError):
    """The given value cannot be accepted. ``faults`` lists everything that is wrong with it."""

    def __init__(self, message: str, faults: Iterable[Fault] = ()) -> None:
        super().__init__(message)
        self.faults: tuple[Fault, ...] = tuple(faults)


class NotFound(ManagerError):
    """There is no such thing."""


class HistoryPruned(NotFound):
    """What is asked for has been there, and is kept no more: begin anew with what is there now."""


class Conflict(ManagerError):
    """The thing has changed, exists already, or does not allow this in its present condition."""


class VersionConflict(Conflict):
    """The thing has another version than the expected one. ``version`` is the one that it has."""

    def __init__(self, message: str, *, version: int) -> None:
        super().__init__(message)
        self.version = version


class AuthenticationError(Base04Error):
    """The caller did not prove who they are.

    The message is safe to show to the caller; ``reason`` says which check failed and is for the log alone.
    """

    message = "authentication failed"

    def __init__(self, reason: str = "") -> None:
        super().__init__(self.message)
        self.reason = reason or self.message


class InvalidToken(AuthenticationError):
    """The token is malformed, expired, revoked, or not meant for this use.

    Which of these it is, is for the program and its log: the message is the same for all.
    """

    message = "invalid token"


class MalformedToken(InvalidToken):
    """It is not what a token of this issuer looks like: its form, its header, or a claim that is missing."""


class UntrustedToken(InvalidToken):
    """No key that is known, with the algorithm that the key is for, has signed it."""


class MisusedToken(InvalidToken):
    """It is a good token, of another type, of another issuer, or for another audience."""


class ExpiredToken(InvalidToken):
    """It has ended."""


class ImmatureToken(InvalidToken):
    """It is not valid yet, or was issued in the future."""


class RevokedToken(InvalidToken):
    """It, or its family, user, source or key, was stopped before its end."""


class ReusedToken(RevokedToken):
    """It is a refresh token that was used before."""


class InvalidApiKey(AuthenticationError):
    """The API key is malformed, unknown, expired or revoked. The message is the same for all."""

    message = "invalid API key"


class MalformedApiKey(InvalidApiKey):
    """Its form or its checksum is wrong; no look-up was needed."""


class UnknownApiKey(InvalidApiKey):
    """There is no key with its public id, or its secret is another."""


class ExpiredApiKey(InvalidApiKey):
    """It has ended."""


class RevokedApiKey(InvalidApiKey):
    """It was stopped before its end."""


class PermissionDenied(Base04Error):
    """The caller is known and may not do this. ``missing`` lists the permissions that would be needed."""

    def __init__(self, message: str, missing: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.missing = tuple(missing)


class RateLimited(Base04Error):
    """Too many calls. ``retry_after`` is in seconds; ``exceeded`` names the limit types that refused.

    ``banned`` names those of them that refused because of a ban, ``limits`` are the limits as they stand.
    """

    def __init__(
        self,
        message: str,
        *,
        retry_after: float,
        exceeded: Sequence[str] = (),
        banned: Sequence[str] = (),
        limits: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        self.exceeded = tuple(exceeded)
        self.banned = tuple(banned)
        self.limits = tuple(limits)


class ActionError(Base04Error):
    """An action could not be run to its end. ``action`` is its full name."""

    def __init__(self, message: str, *, action: str) -> None:
        super().__init__(message)
        self.action = action


class UnknownAction(ActionError):
    """No action has this name. ``matches`` lists names that come close."""

    def __init__(self, message: str, *, action: str, matches: Sequence[str] = ()) -> None:
        super().__init__(message, action=action)
        self.matches = tuple(matches)


class ActionBusy(ActionError):
    """The action runs as often as it may at once, and was not begun. ``retry_after`` is in seconds."""

    def __init__(self, message: str, *, action: str, retry_after: float = 1.0) -> None:
        super().__init__(message, action=action)
        self.retry_after = retry_after


class ActionTimeout(ActionError):
    """The handler took longer than its action allows."""


class ActionFailed(ActionError):
    """The handler raised, or returned what its action does not declare; ``__cause__`` is what it raised."""
