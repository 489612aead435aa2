"""Keeping the secrets among the arguments of a handler out of what it raises and logs."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from base04_builtin.action_discovery.secrets import Conceal
from base04_hookspecs.action_discovery import CONCEALED, ActionContext, ActionLog
from base04_hookspecs.errors import Fault, InvalidInput

_SHORTEST: Final = 3
"""Texts that are shorter are in too many words to be looked for."""

Handler = Callable[..., Any]


def discreet(handler: Handler, conceal: Conceal) -> Handler:
    """Return a handler with the same signature, whose errors and log lines do not hold the secrets it was given."""
    if inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None)):  # noqa: B004 - an object with `async def`

        @functools.wraps(handler)
        async def call_async(**arguments: Any) -> Any:
            secrets = _Secrets(arguments, conceal)
            try:
                return await handler(**secrets.for_handler(arguments))
            except Exception as error:
                told = secrets.out_of(error)
                if told is error:
                    raise
                raise told from None

        return call_async

    @functools.wraps(handler)
    def call(**arguments: Any) -> Any:
        secrets = _Secrets(arguments, conceal)
        try:
            return handler(**secrets.for_handler(arguments))
        except Exception as error:
            told = secrets.out_of(error)
            if told is error:
                raise
            raise told from None

    return call


class _Secrets:
    """The texts of the secrets in the arguments of one call."""

    def __init__(self, arguments: Mapping[str, Any], conceal: Conceal) -> None:
        given = dict(arguments)
        found = {text for text in _differing(given, conceal(given)) if len(text) >= _SHORTEST}
        self._texts = sorted(found, key=len, reverse=True)

    def for_handler(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments with a log that is discreet too."""
        return {
            name: dataclasses.replace(value, log=_DiscreetLog(value.log, self))
            if isinstance(value, ActionContext)
            else value
            for name, value in arguments.items()
        }

    def out_of(self, error: Exception) -> Exception:
        """Return an error without secrets: the same one where they can be taken out of it, or else a plain one."""
        chain = list(_chain(error))
        for current in chain:
            self._cleanse(current)
        if any(map(self._within, chain)):
            return RuntimeError(self.concealed(f"{type(error).__name__}: {error}"))
        return error

    def _cleanse(self, error: BaseException) -> None:
        error.args = tuple(self.concealed(value) for value in error.args)
        if isinstance(error, InvalidInput):
            error.faults = tuple(
                Fault(self.concealed(fault.pointer), self.concealed(fault.message)) for fault in error.faults
            )
        for number, note in enumerate(getattr(error, "__notes__", ())):
            error.__notes__[number] = self.concealed(note)

    def _within(self, error: BaseException) -> bool:
        shown = f"{error} {error!r}"
        return any(text in shown for text in self._texts)

    def concealed(self, value: Any) -> Any:
        """Return a value, or whatever texts are in it, without secrets."""
        if isinstance(value, str):
            for text in self._texts:
                value = value.replace(text, CONCEALED)
            return value
        if isinstance(value, bytes):
            return self.concealed(value.decode("utf-8", "replace")).encode()
        if isinstance(value, Mapping):
            return {self.concealed(name): self.concealed(item) for name, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.concealed(item) for item in value]
        if value is None or isinstance(value, bool):
            return value
        return CONCEALED if any(text in repr(value) for text in self._texts) else value


class _DiscreetLog:
    """A log that writes no secrets."""

    def __init__(self, log: ActionLog, secrets: _Secrets) -> None:
        self._log, self._secrets = log, secrets

    def debug(self, event: str, **values: Any) -> Any:
        """Log an event that helps to find errors."""
        return self._log.debug(self._secrets.concealed(event), **self._values(values))

    def info(self, event: str, **values: Any) -> Any:
        """Log an event."""
        return self._log.info(self._secrets.concealed(event), **self._values(values))

    def warning(self, event: str, **values: Any) -> Any:
        """Log an event that somebody should look at."""
        return self._log.warning(self._secrets.concealed(event), **self._values(values))

    def error(self, event: str, **values: Any) -> Any:
        """Log a failure."""
        return self._log.error(self._secrets.concealed(event), **self._values(values))

    def _values(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._secrets.concealed(value) for name, value in values.items()}


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and all that led to it."""
    pending: list[BaseException | None] = [error]
    seen: set[int] = set()
    while pending:
        current = pending.pop()
        if current is not None and id(current) not in seen:
            seen.add(id(current))
            yield current
            pending += [current.__cause__, current.__context__]
            pending += current.exceptions if isinstance(current, BaseExceptionGroup) else ()


def _differing(given: Any, concealed: Any) -> Iterator[str]:
    """Yield the texts of a value that are concealed in its copy."""
    if concealed == CONCEALED and given != CONCEALED:
        yield from _texts(given)
    elif isinstance(given, dict) and isinstance(concealed, dict):
        for name, value in given.items():
            yield from _differing(value, concealed[name])
    elif isinstance(given, list | tuple) and isinstance(concealed, list):
        for value, other in zip(given, concealed, strict=True):
            yield from _differing(value, other)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)
    elif value is not None and not isinstance(value, bool):
        yield str(value)
