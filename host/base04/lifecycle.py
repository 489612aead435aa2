"""Start managers in order, and stop them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog

from base04.errors import HostError, StartError, StopError
from base04.generation import Running, with_access
from base04.provider_settings import provider_settings
from base04.resolution import VAULT, Node, Plan
from base04.secret_values import SecretValues, fingerprint, secret_values
from base04.selection import InstanceKey
from base04.settings_source import put_in_secrets
from base04_hookspecs.app import AppManager
from base04_hookspecs.errors import Base04Error, ManagerError, ManagerUnavailable
from base04_hookspecs.manager import Manager

SLOW_START_S: Final = 10.0
RETRIED: Final = (ManagerUnavailable, ConnectionError, TimeoutError)
"""What a start may raise for a backend that is not there yet; everything else is final."""


class Overdue(TimeoutError):
    """A start took longer than ``start_timeout``; it is not tried again."""


Watch = Callable[[Node, Manager], None]

_log = structlog.get_logger()
T = TypeVar("T")


@dataclass(slots=True)
class Started:
    """What came up, in the order in which it did, and why the rest did not."""

    running: dict[InstanceKey, Running] = field(default_factory=dict)
    down: dict[InstanceKey, str] = field(default_factory=dict)


async def start_all(
    plan: Plan,
    app: AppManager,
    data_dir: Path,
    *,
    reuse: Mapping[InstanceKey, Running] | None = None,
    watch: Watch | None = None,
) -> Started:
    """Start every manager of a plan as soon as what it needs is up; those of ``reuse`` are taken as they are.

    ``watch`` is called with each instance that is made, before it starts and before anybody else has it.

    Raises:
        StartError: a required one cannot start; what this call had started is stopped.
    """
    starter = _Starter(plan, app, data_dir, Started(dict(reuse or {})), watch)
    try:
        await starter.run()
    except BaseException:
        fresh = [item for key, item in starter.started.running.items() if key not in (reuse or {})]
        for error in await asyncio.shield(stop_each(fresh)):
            _log.warning("a manager failed to stop after a failed start", error=repr(error))
        raise
    return starter.started


class _Starter:
    """One start of a plan."""

    def __init__(self, plan: Plan, app: AppManager, data_dir: Path, started: Started, watch: Watch | None) -> None:
        self._plan, self._app, self._data_dir, self.started, self._watch = plan, app, data_dir, started, watch

    async def run(self) -> None:
        sorter = TopologicalSorter(self._plan.edges)
        sorter.prepare()
        tasks: dict[asyncio.Task[None], InstanceKey] = {}
        try:
            while sorter.is_active():
                for key in sorted(sorter.get_ready()):
                    tasks[asyncio.create_task(self._bring_up(key), name=f"start {key}")] = key
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    key = tasks.pop(task)
                    task.result()
                    sorter.done(key)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _bring_up(self, key: InstanceKey) -> None:
        if key in self.started.running:
            return
        node = self._plan.nodes[key]
        missing = [
            str(item.key) for item in node.constructor.dependencies if self._lacks(item.key) and not item.optional
        ]
        if node.secrets and self._lacks(VAULT):
            missing.append(str(VAULT))
        try:
            if missing:
                raise ManagerUnavailable(f"It needs {', '.join(missing)}, which is not up.")
            self.started.running[key] = await self._start(node)
        except (HostError, *RETRIED) as error:
            if node.choice.settings.required or isinstance(error, HostError):
                raise _start_error(node, error) from error
            self.started.down[key] = _told(error)
            _log.warning("a manager that is not required is down", manager=str(key), reason=_told(error))
        except Exception as error:
            if node.choice.settings.required:
                raise _start_error(node, error) from error
            self.started.down[key] = _told(error)
            _log.exception("a manager that is not required is down", manager=str(key))

    def _lacks(self, key: InstanceKey) -> bool:
        return key not in self.started.running

    async def _start(self, node: Node) -> Running:
        began = time.monotonic()
        loop = asyncio.get_running_loop()
        watchdog = loop.call_later(SLOW_START_S, _warn_slow, node)
        timeout_s = node.choice.settings.start_timeout
        attempts = 0
        secrets: SecretValues = {}

        async def attempt() -> Manager:
            nonlocal attempts, secrets
            attempts += 1
            vault = self.started.running.get(VAULT)
            secrets = await secret_values(node, vault.manager if vault else None)
            manager = self._construct(node, secrets)
            if self._watch is not None:
                self._watch(node, manager)
            limit = asyncio.timeout(max(began + timeout_s - time.monotonic(), 0.001))
            try:
                async with limit:
                    await within(manager.start())
            except BaseException as error:
                await asyncio.shield(_discard(manager, node))
                if isinstance(error, TimeoutError) and limit.expired():
                    raise Overdue(f"It did not start within {timeout_s:g} s.") from error
                raise
            return manager

        try:
            manager = await _with_retries(attempt, node, began + timeout_s)
        finally:
            watchdog.cancel()
        return Running(node, manager, time.monotonic() - began, attempts, fingerprint(secrets))

    def _construct(self, node: Node, secrets: SecretValues) -> Manager:
        constructor = node.constructor
        arguments: dict[str, Any] = {}
        for item in constructor.dependencies:
            found = self.started.running.get(item.key)
            arguments[item.parameter] = with_access(found.manager, item.use) if found else None
        if constructor.app_parameter:
            arguments[constructor.app_parameter] = self._app
        document = put_in_secrets(node.document, secrets) if node.secrets else node.document
        settings = provider_settings(node, document, self._data_dir)
        if constructor.settings_parameter:
            arguments[constructor.settings_parameter] = settings
        return constructor.cls(**arguments)


async def _with_retries(attempt: Callable[[], Awaitable[Manager]], node: Node, deadline: float) -> Manager:
    """Try again with backoff and jitter while the backend is not there; the first try needs no retry machinery."""
    try:
        return await attempt()
    except RETRIED as error:
        if not _worth_another_try(error) or time.monotonic() >= deadline:
            raise
        _log.warning("a manager did not start and is tried again", manager=str(node.key), error=str(error))
    from tenacity import AsyncRetrying, retry_if_exception, stop_before_delay, wait_random_exponential

    retrying = AsyncRetrying(
        retry=retry_if_exception(_worth_another_try),
        wait=wait_random_exponential(multiplier=0.1, max=5.0),
        stop=stop_before_delay(max(deadline - time.monotonic(), 0.0)),  # so that the last error is the backend's own
        reraise=True,
    )
    return await retrying(attempt)


def _worth_another_try(error: BaseException) -> bool:
    return isinstance(error, RETRIED) and not isinstance(error, Overdue)


async def within(step: Awaitable[T]) -> T:
    """Await what a plugin wrote; a cancellation that nobody asked this task for is its failure, not ours.

    Raises:
        ManagerError: the step was cancelled from within, as when it awaits a task that it has cancelled.
    """
    try:
        return await step
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise ManagerError("It let a cancellation of its own escape.") from error


async def _discard(manager: Manager, node: Node) -> None:
    """Stop an instance whose start failed."""
    for error in await stop_each([Running(node, manager)]):
        _log.warning("a manager failed to stop after its start failed", error=repr(error))


def _warn_slow(node: Node) -> None:
    _log.warning("a manager is slow to start", manager=str(node.key), provider=str(node.choice.candidate))


def _start_error(node: Node, error: BaseException) -> StartError:
    return StartError(f"The manager {node} did not start: {_told(error)}")


def _told(error: BaseException) -> str:
    return str(error) if isinstance(error, Base04Error | Overdue) else f"{type(error).__name__}: {error}"


async def stop_each(running: Sequence[Running]) -> list[Exception]:
    """Stop managers in reverse order, each under its timeout, and return what went wrong; none prevents the next."""
    errors: list[Exception] = []
    for item in reversed(running):
        timeout_s = item.node.choice.settings.stop_timeout
        try:
            async with asyncio.timeout(timeout_s) as limit:
                await within(item.manager.stop())
        except TimeoutError as error:
            told = f"did not stop within {timeout_s:g} s." if limit.expired() else f"failed to stop: {error!r}"
            errors.append(StopError(f"The manager {item.node} {told}", (error,)))
        except Exception as error:  # noqa: BLE001 - one failing stop never prevents the next; all are reported
            failure = StopError(f"The manager {item.node} failed to stop: {error!r}", (error,))
            failure.__cause__ = error
            errors.append(failure)
    return errors
