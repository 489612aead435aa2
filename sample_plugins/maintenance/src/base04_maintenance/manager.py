"""The provider ``state``: the closure is a state, which all processes watch."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from typing import Any, Final

import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from base04_hookspecs import HealthReport, health_report
from base04_hookspecs.errors import Base04Error, HistoryPruned
from base04_hookspecs.settings import Duration, ManagerSettings
from base04_hookspecs.state import StateManager, StateType
from base04_maintenance.contract import Closure, MaintenanceManager

STATE_ID: Final = "maintenance"
"""The state that holds it. Whoever may write states can change it, so that nothing in it is trusted."""

_PAUSE_S: Final = 1.0

_log = structlog.get_logger()


class MaintenanceSettings(ManagerSettings):
    """Settings of the provider ``state``."""

    open_paths: tuple[str, ...] = Field(
        default=("/health", "/metrics", "/auth", "/maintenance", "/.well-known"),
        description="What stays open while the application is closed: these paths, and what is below them.",
    )
    retry_after: Duration = Field(
        default=60.0, description="After how long visitors are told to come back, where nobody knows the end."
    )


class _Stored(BaseModel):
    """The data of the state."""

    model_config = ConfigDict(strict=True)

    closed: bool
    message: str = Field(default="", max_length=2000)
    since: float = Field(default=0.0, ge=0, lt=1e11, allow_inf_nan=False)
    ends_at: float | None = Field(default=None, ge=0, lt=1e11, allow_inf_nan=False)
    by: str | None = None


class StateMaintenanceManager(MaintenanceManager):
    """Keeps the closure in the role ``state`` and watches it, so that each request looks at memory alone."""

    def __init__(self, settings: MaintenanceSettings, states: StateManager) -> None:
        self.open_paths = settings.open_paths
        self.retry_after = settings.retry_after
        self._states = states
        self._closure: Closure | None = None
        self._version = 0
        self._trouble = ""
        self._errors = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read what is stored, and watch it from there."""
        await self._read()
        self._task = asyncio.create_task(self._follow(), name="maintenance")

    async def stop(self) -> None:
        """Watch no longer."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def health_check(self) -> HealthReport:
        """Report whether what others change is heard of."""
        if self._task is None:
            return health_report("unhealthy", "not running", errors=self._errors)
        closed = self.current() is not None
        if self._trouble:
            return health_report("degraded", self._trouble, errors=self._errors, closed=closed)
        return health_report("healthy", "closed" if closed else "open", errors=self._errors, closed=closed)

    def current(self) -> Closure | None:
        """Return why the application is closed, None where it is open."""
        closure = self._closure
        return None if closure is None or closure.is_over() else closure

    async def close(self, message: str, duration: float | None, by: str | None) -> Closure:
        """Close the application."""
        now = time.time()
        closure = Closure(message, now, None if duration is None else now + duration, by)
        before = self.current()
        if before is not None:
            closure = Closure(message, before.since, closure.ends_at, by)
        await self._write(
            {"closed": True, "message": message, "since": closure.since, "ends_at": closure.ends_at, "by": by}
        )
        return closure

    async def reopen(self) -> bool:
        """Open the application."""
        await self._read()
        if self.current() is None:
            return False
        await self._write({"closed": False})
        return True

    async def _write(self, data: dict[str, Any]) -> None:
        if not await self._states.register_state(STATE_ID, StateType.FEATURE, data):
            await self._states.replace_state(STATE_ID, data)
        await self._read()

    async def _read(self) -> None:
        # The history first: a change that comes between the two is then watched, and not taken for known. It knows
        # the version of a state that was deleted, too.
        newest = await self._states.get_state_history(STATE_ID, 1)
        state = await self._states.get_state(STATE_ID, fresh=True)
        if state is not None:
            self._learn(state["version"], state["data"])
        else:
            self._learn(newest[0]["version"] if newest else 0, None)

    async def _follow(self) -> None:
        while True:
            try:
                async for change in self._states.watch(STATE_ID, from_version=self._version):
                    self._trouble = ""
                    self._learn(change["version"], change["after"])
            except HistoryPruned:
                pass  # the state itself says how it is now
            except Base04Error as error:
                self._errors += 1
                if not self._trouble:
                    _log.warning("whether the application is closed is not heard of just now", error=str(error))
                self._trouble = f"changes are not heard of: {error}"
                await asyncio.sleep(_PAUSE_S)
            with contextlib.suppress(Base04Error):
                await self._read()
                self._trouble = ""

    def _learn(self, version: int, data: Mapping[str, Any] | None) -> None:
        if 0 < version < self._version:
            return  # what is known is newer
        before, self._version = self._closure, version
        self._closure = None if data is None else _closure_in(data)
        if (before is None) != (self._closure is None):
            _log.warning("the application is closed" if self._closure else "the application is open", version=version)


def _closure_in(data: Mapping[str, Any]) -> Closure | None:
    try:
        stored = _Stored.model_validate(dict(data))
    except ValidationError as error:
        _log.error("what is stored of the maintenance mode is not usable and is left out", faults=error.error_count())
        return None
    return Closure(stored.message, stored.since, stored.ends_at, stored.by) if stored.closed else None
