"""The provider ``inprocess``: services inside this process."""

from __future__ import annotations

import asyncio
import difflib
from contextvars import ContextVar
from typing import Any, Final

import structlog

from base04_builtin.callbacks import describe, is_cancellation
from base04_builtin.services.service import Service
from base04_builtin.services.settings import InProcessServicesSettings
from base04_hookspecs.errors import (
    ConfigurationError,
    Conflict,
    InvalidInput,
    ManagerError,
    ManagerUnavailable,
    NotFound,
)
from base04_hookspecs.health import HealthReport, HealthStatus, health_report, worst
from base04_hookspecs.manager import Manager
from base04_hookspecs.services import ServiceHook, ServiceInfo, ServicesManager

log = structlog.get_logger()

_being_started: Final[ContextVar[Service | None]] = ContextVar("base04_service_being_started", default=None)
"""The service whose start the present code is part of."""


class InProcessServicesManager(ServicesManager):
    """Keeps services by name. A start is shared by all who wait for it, and outlives those who give up waiting."""

    def __init__(self, settings: InProcessServicesSettings) -> None:
        self._settings = settings
        self._services: dict[str, Service] = {}
        self._started: list[Service] = []
        self._failures = 0
        self._stopped = self._handed_over = False

    async def take_over(self, previous: Manager) -> None:
        """Share all services with the previous instance, which lets them run when it stops."""
        if isinstance(previous, InProcessServicesManager):
            self._services, self._started = previous._services, previous._started
            previous._handed_over = True

    async def stop(self) -> None:
        """Stop all services, the one started last first.

        Raises:
            ExceptionGroup: some did not stop; all others did.
        """
        self._stopped = True
        if self._handed_over:
            return
        await _cancel([one.starting for one in self._services.values() if one.starting is not None])
        errors: list[Exception] = []
        while self._started:
            error = await self._stop_one(self._started[-1])
            if error is not None:
                errors.append(error)
        if errors:
            raise ExceptionGroup(f"{len(errors)} services could not be stopped", errors)

    async def register_service(
        self,
        name: str,
        service_or_factory: Any,
        *,
        start: ServiceHook | None = None,
        stop: ServiceHook | None = None,
        lazy: bool = True,
    ) -> bool:
        """Make a service known.

        A function, method, partial or class is a factory, everything else is the service itself. Factories, ``start``
        and ``stop`` that are a ``def`` run in a worker thread; a start that fails undoes what it did. One that is not
        lazy and fails raises ``ManagerUnavailable``, stays registered, and is tried again when it is asked for.
        """
        if not isinstance(name, str) or not name:
            raise InvalidInput(f"The service name {name!r} is not usable: give a string that is not empty.")
        for what, hook in (("start", start), ("stop", stop)):
            if hook is not None and not callable(hook):
                raise InvalidInput(f"{what!r} of the service {name!r} is {hook!r}: give a function of the service.")
        self._require_running()
        if name in self._services:
            return False
        self._services[name] = Service(name, service_or_factory, start, stop)
        if not lazy:
            await self.get_service(name)
        return True

    async def get_service(self, name: str) -> Any:
        service = self._services.get(name)
        if service is None:
            raise NotFound(f"There is no service {name!r}.{self._hint(name)}")
        if service.is_started():
            return service.instance
        self._require_running()
        await self._started_by_now(service)
        if not service.is_started():
            raise ManagerUnavailable(f"The service {name!r} has been stopped in the meantime.")
        return service.instance

    async def unregister_service(self, name: str) -> bool:
        """Stop a service and forget it.

        Raises:
            Conflict: the service is being started by the very code that asks for this.
            ManagerError: it did not stop; it is forgotten all the same.
        """
        service = self._services.get(name)
        if service is None:
            return False
        if service.starting is not None and _being_started.get() is service:
            raise Conflict(f"The service {name!r} cannot be unregistered by its own start.")
        del self._services[name]
        if service.starting is not None:
            await _cancel([service.starting])
        error = await self._stop_one(service)
        if error is not None:
            raise ManagerError(f"The service {name!r} is forgotten but did not stop: {describe(error)}") from error
        return True

    async def list_services(self) -> list[ServiceInfo]:
        return [service.info() for service in self._services.values()]

    async def health_check(self) -> HealthReport:
        """Ask all started services that have a ``health_check``, at the same time."""
        services = list(self._services.values())
        started = [one for one in services if one.is_started()]
        answers = await asyncio.gather(*(one.health(self._settings.health_timeout) for one in started))
        troubles = [
            f"{one.name} is {status}" + (f" ({details})" if details else "")
            for one, (status, details) in zip(started, answers, strict=True)
            if status != "healthy"
        ]
        failed = [one for one in services if one.status == "failed"]
        troubles += [f"{one.name} failed to start ({one.error})" for one in failed]
        statuses: list[HealthStatus] = [status for status, _ in answers]
        if failed:
            statuses.append("degraded")
        return health_report(
            worst(*statuses),
            "; ".join(troubles) or f"{len(started)} of {len(services)} services started",
            errors=self._failures,
            services=len(services),
            started=len(started),
            failed=len(failed),
        )

    async def _started_by_now(self, service: Service) -> None:
        if service.starting is None:
            # The context is that of the registration: a service belongs to no request.
            service.starting = asyncio.create_task(
                self._start(service), name=f"start of service {service.name}", context=service.context.copy()
            )
        waiter = _being_started.get()
        if waiter is None or waiter.starting is None:
            await _outcome(service, service.starting)
            return
        self._refuse_cycle(waiter, service)
        waiter.waits_for.add(service.name)
        try:
            await _outcome(service, service.starting)
        finally:
            waiter.waits_for.discard(service.name)

    async def _start(self, service: Service) -> None:
        _being_started.set(service)
        try:
            await service.start(self._settings.start_timeout)
            self._started.append(service)
        except Exception:
            self._failures += 1
            log.exception("service failed to start", service=service.name)
            raise
        finally:
            service.starting = None

    async def _stop_one(self, service: Service) -> Exception | None:
        """Stop a service and return its error; where this is cancelled, the service counts as stopped."""
        if service in self._started:
            self._started.remove(service)
        task = asyncio.create_task(service.stop(self._settings.stop_timeout), context=service.context.copy())
        try:
            await task
        except (Exception, asyncio.CancelledError) as error:
            if is_cancellation(error):
                raise
            self._failures += 1
            log.exception("service failed to stop", service=service.name)
            return error if isinstance(error, Exception) else ManagerError(f"{service.name!r} was cancelled")
        return None

    def _refuse_cycle(self, waiter: Service, service: Service) -> None:
        """Refuse to wait for a service that, through others, waits for the one being started."""
        chain = self._chain(service.name, waiter.name, [waiter.name])
        if chain is not None:
            raise ConfigurationError(
                f"The services need each other to start: {' -> '.join(chain)}. "
                "Let one of them ask for the other after its start."
            )

    def _chain(self, name: str, target: str, before: list[str]) -> list[str] | None:
        path = [*before, name]
        if name == target:
            return path
        service = self._services.get(name)
        for needed in service.waits_for if service is not None else ():
            chain = self._chain(needed, target, path)
            if chain is not None:
                return chain
        return None

    def _hint(self, name: str) -> str:
        close = difflib.get_close_matches(name, self._services)
        if close:
            return f" Did you mean {' or '.join(map(repr, close))}?"
        return " None is registered." if not self._services else ""

    def _require_running(self) -> None:
        if self._stopped:
            raise ManagerUnavailable("The services have been stopped.")


async def _outcome(service: Service, starting: asyncio.Task[None]) -> None:
    """Wait for a start without cancelling it for the others who wait."""
    try:
        await asyncio.shield(starting)
    except (Exception, asyncio.CancelledError) as error:
        if is_cancellation(error):
            raise
        raise ManagerUnavailable(f"The service {service.name!r} failed to start: {service.error}") from error


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    current = asyncio.current_task()
    others = [task for task in tasks if task is not current]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
