"""One service: how it is made, started, stopped and asked for its health."""

from __future__ import annotations

import asyncio
import functools
import inspect
from contextvars import copy_context
from typing import Any, Literal

from base04_builtin.callbacks import call, describe, qualified_name
from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.health import HealthStatus
from base04_hookspecs.services import ServiceHook, ServiceInfo

_STATUSES: dict[object, HealthStatus] = {
    "healthy": "healthy",
    "degraded": "degraded",
    "unhealthy": "unhealthy",
    True: "healthy",
    False: "unhealthy",
    None: "healthy",
}


class Service:
    """A registration and what came of it. It is made, started and stopped in the context that registered it."""

    def __init__(self, name: str, subject: Any, start: ServiceHook | None, stop: ServiceHook | None) -> None:
        self.name = name
        self.status: Literal["registered", "started", "failed", "stopped"] = "registered"
        self.error = ""
        self.starting: asyncio.Task[None] | None = None
        self.waits_for: set[str] = set()
        self.context = copy_context()
        self.instance: Any = None
        self._subject = subject
        self._is_factory = is_factory(subject)
        self._start = start
        self._stop = stop
        if self._is_factory:
            _require_no_parameters(name, subject)

    def is_started(self) -> bool:
        """Tell whether the service can be used."""
        return self.status == "started"

    async def start(self, timeout_s: float) -> None:
        """Make and start the service; ``error`` keeps why that failed."""
        try:
            async with asyncio.timeout(timeout_s):
                instance = await call(self._subject) if self._is_factory else self._subject
                if self._start is not None:
                    await call(self._start, instance)
        except TimeoutError as error:
            self._fail(describe(error) if str(error) else f"it took longer than {timeout_s:g} s")
            raise
        except BaseException as error:
            self._fail(describe(error))
            raise
        self.instance, self.status, self.error = instance, "started", ""

    async def stop(self, timeout_s: float) -> None:
        """Stop the service, if it has started; it counts as stopped even where that fails."""
        if not self.is_started():
            return
        instance, self.instance, self.status = self.instance, None, "stopped"
        if self._stop is None:
            return
        try:
            async with asyncio.timeout(timeout_s):
                await call(self._stop, instance)
        except Exception as error:
            self.error = describe(error)
            error.add_note(f"while stopping the service {self.name!r}")
            raise

    async def health(self, timeout_s: float) -> tuple[HealthStatus, str]:
        """Ask the service itself, where it has a ``health_check``.

        That returns a report with a ``status``, a status, a boolean, or None for healthy.
        """
        check = getattr(self.instance, "health_check", None)
        if not callable(check):
            return "healthy", ""
        try:
            async with asyncio.timeout(timeout_s):
                answer = await call(check)
        except TimeoutError:
            return "unhealthy", f"no answer within {timeout_s:g} s"
        except Exception as error:  # noqa: BLE001 - it is reported, as what the service says of itself
            return "unhealthy", describe(error)
        return _read_health(answer)

    def info(self) -> ServiceInfo:
        """Return what is known of the service."""
        return {"name": self.name, "type": self._type(), "status": self.status, "error": self.error}

    def _fail(self, error: str) -> None:
        self.status, self.error = "failed", error

    def _type(self) -> str:
        if self.instance is not None:
            return qualified_name(type(self.instance))
        return qualified_name(self._subject if self._is_factory else type(self._subject))


def is_factory(subject: Any) -> bool:
    """Tell whether something makes the service rather than being it: a function, method, partial or class."""
    return inspect.isroutine(subject) or isinstance(subject, (functools.partial, type))


def _require_no_parameters(name: str, factory: Any) -> None:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return  # some that are written in C do not tell
    required = [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind not in (one.VAR_POSITIONAL, one.VAR_KEYWORD)
    ]
    if required:
        raise InvalidInput(
            f"The factory {qualified_name(factory)} of the service {name!r} has required parameters "
            f"({', '.join(required)}): give a function without, such as a lambda around it, or the service itself."
        )


def _read_health(answer: Any) -> tuple[HealthStatus, str]:
    status, details = answer, ""
    if isinstance(answer, dict):
        status, details = answer.get("status"), str(answer.get("details", ""))
        if status is None:
            return "degraded", "its health_check returned a report without a status"
    try:
        return _STATUSES[status], details
    except (KeyError, TypeError):
        return "degraded", f"its health_check returned {status!r}, which is no status"
