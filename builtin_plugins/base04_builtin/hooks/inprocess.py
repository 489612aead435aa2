"""The provider ``inprocess``: named events inside this process."""

from __future__ import annotations

from typing import Any, Final

import structlog

from base04_builtin.callbacks import call, describe, qualified_name
from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.health import HealthReport, health_report
from base04_hookspecs.hooks import HookCallback, HookInfo, HooksManager
from base04_hookspecs.manager import Manager

log = structlog.get_logger()

_MOST_UNDECLARED: Final = 10_000
"""How many hooks are remembered that were only triggered: names may come from outside."""


class _Listener:
    __slots__ = ("active", "callback", "name", "priority")

    def __init__(self, callback: HookCallback, priority: int) -> None:
        self.callback = callback
        self.priority = priority
        self.name = qualified_name(callback)
        self.active = True


class _Hook:
    __slots__ = ("declared", "description", "failures", "last_error", "listeners", "triggered")

    def __init__(self) -> None:
        self.declared = False
        self.description = ""
        self.listeners: tuple[_Listener, ...] = ()
        self.triggered = 0
        self.failures = 0
        self.last_error = ""


class InProcessHooksManager(HooksManager):
    """Calls back on the event loop, or in worker threads for callbacks that are a ``def``."""

    def __init__(self) -> None:
        self._hooks: dict[str, _Hook] = {}
        self._handed_over = False

    async def take_over(self, previous: Manager) -> None:
        """Share all hooks with the previous instance, which lets them be when it stops."""
        if isinstance(previous, InProcessHooksManager):
            self._hooks = previous._hooks
            previous._handed_over = True

    async def stop(self) -> None:
        if self._handed_over:
            return
        for hook in self._hooks.values():
            for listener in hook.listeners:
                listener.active = False
            hook.listeners = ()

    async def register_hook(self, name: str, description: str = "") -> bool:
        hook = self._hook(name)
        if hook.declared:
            return False
        hook.declared, hook.description = True, description
        return True

    async def register_callback(self, name: str, callback: HookCallback, priority: int = 0) -> bool:
        if not callable(callback):
            raise InvalidInput(f"The callback {callback!r} of the hook {name!r} cannot be called: give a function.")
        hook = self._hook(name)
        if any(one.callback == callback for one in hook.listeners):
            return False
        # A new tuple, so that a run in progress goes on over the one that it began with.
        listeners = (*hook.listeners, _Listener(callback, priority))
        hook.listeners = tuple(sorted(listeners, key=lambda one: -one.priority))
        return True

    async def unregister_callback(self, name: str, callback: HookCallback) -> bool:
        hook = self._hooks.get(name)
        if hook is None:
            return False
        for listener in hook.listeners:
            if listener.callback == callback:
                listener.active = False
                hook.listeners = tuple(one for one in hook.listeners if one is not listener)
                return True
        return False

    def has_callbacks(self, name: str) -> bool:
        hook = self._hooks.get(name)
        return hook is not None and bool(hook.listeners)

    async def trigger_hook(self, name: str, /, **data: Any) -> list[Any]:
        hook = self._hooks.get(name)
        if hook is None:
            if len(self._hooks) >= _MOST_UNDECLARED:
                return []
            hook = self._hook(name)
        hook.triggered += 1
        results: list[Any] = []
        for listener in hook.listeners:
            if not listener.active:
                continue
            try:
                results.append(await call(listener.callback, **data))
            except Exception as error:
                hook.failures += 1
                hook.last_error = describe(error)
                log.exception("hook callback failed", hook=name, callback=listener.name)
        return results

    async def list_hooks(self) -> list[HookInfo]:
        return [_info(name, hook) for name, hook in sorted(self._hooks.items())]

    async def health_check(self) -> HealthReport:
        """Count; a callback that fails is its plugin's matter, and does not make the manager ill."""
        hooks = self._hooks.values()
        return health_report(
            "healthy",
            f"{len(hooks)} hooks",
            errors=sum(hook.failures for hook in hooks),
            hooks=len(hooks),
            callbacks=sum(len(hook.listeners) for hook in hooks),
            triggered=sum(hook.triggered for hook in hooks),
        )

    def _hook(self, name: str) -> _Hook:
        hook = self._hooks.get(name)
        if hook is None:
            if not isinstance(name, str) or not name:
                raise InvalidInput(f"The hook name {name!r} is not usable: give a string that is not empty.")
            hook = self._hooks[name] = _Hook()
        return hook


def _info(name: str, hook: _Hook) -> HookInfo:
    return {
        "name": name,
        "description": hook.description,
        "callbacks": [listener.name for listener in hook.listeners],
        "triggered": hook.triggered,
        "failures": hook.failures,
        "last_error": hook.last_error,
    }
