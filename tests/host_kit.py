"""What the tests of the host share: plugins as third parties write them, and small managers."""

from __future__ import annotations

import asyncio
import sys
import textwrap
import types
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from base04_hookspecs import HealthReport, Manager, Provider, health_report, hookimpl
from base04_hookspecs.roles import ROLES


class Site:
    """A folder on ``sys.path`` to install distributions into; names must be unique, since modules stay imported."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "site"
        self.folder.mkdir()
        monkeypatch.setattr(sys, "path", [str(self.folder), *sys.path])

    def install(
        self,
        name: str,
        *,
        version: str = "1.0",
        plugins: Mapping[str, str] | None = None,
        actions: Mapping[str, str] | None = None,
        modules: Mapping[str, str] | None = None,
        requires: Iterable[str] = (),
    ) -> None:
        """Lay a distribution down as pip does: metadata, entry points and modules."""
        info = self.folder / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        required = "".join(f"Requires-Dist: {text}\n" for text in requires)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}")
        groups = {"base04.plugins": plugins or {}, "base04.actions": actions or {}}
        lines = []
        for group, points in groups.items():
            lines += [f"[{group}]", *(f"{point} = {target}" for point, target in points.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
        for module, source in (modules or {}).items():
            write_module(self.folder, module, source)


def write_module(folder: Path, module: str, source: str) -> Path:
    """Write a Python module into a folder and return its file."""
    file = folder / f"{module}.py"
    file.write_text(textwrap.dedent(source))
    return file


def rate_limiter_plugin(provider: str = "counting", **arguments: str) -> str:
    """Return the source of a plugin that offers one provider of ``rate_limiter``; ``arguments`` are expressions."""
    given = "".join(f", {name}={value}" for name, value in arguments.items())
    return f"""
    from base04_hookspecs import Provider, hookimpl

    @hookimpl
    def rate_limiter_providers():
        yield Provider({provider!r}, "nowhere.at_all:Limiter"{given})
    """


class Plain(Manager):
    """A manager without anything to look after; healthy. Contracts and providers of the tests derive from it."""

    async def health_check(self) -> HealthReport:
        return health_report()


Step = Callable[[Any], Awaitable[None]]


def noting(cls: type[Manager], journal: list[str], *, start: Step | None = None, stop: Step | None = None) -> Any:
    """Return a subclass that writes its starts and stops into a journal, after (start) and before (stop) a step."""

    async def noted_start(self: Manager) -> None:
        if start is not None:
            await start(self)
        journal.append(f"start {cls.role}")

    async def noted_stop(self: Manager) -> None:
        journal.append(f"stop {cls.role}")
        if stop is not None:
            await stop(self)

    body = {"start": noted_start, "stop": noted_stop, "__module__": cls.__module__}
    return types.new_class(cls.__name__, (cls,), exec_body=lambda namespace: namespace.update(body))


def raising(*errors: BaseException) -> Step:
    """Return a step that raises each error in turn, then none."""
    left = list(errors)

    async def step(_: Any) -> None:
        if left:
            raise left.pop(0)

    return step


async def until(holds: Callable[[], object]) -> None:
    """Wait for something that tells nobody when it happens, as when a generation takes over by one assignment."""
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.001)


async def hanging(_: Any) -> None:
    """A step that never ends by itself."""
    await asyncio.Event().wait()


def offering(*classes: type[Manager], **provider: Any) -> SimpleNamespace:
    """Return a plugin that offers each class for its role, under the name ``own``."""

    @hookimpl
    def extra_providers() -> Iterable[Provider]:
        return [Provider("own", cls, role=cls.role, **provider) for cls in classes]

    return SimpleNamespace(extra_providers=extra_providers)


def only(data_dir: Path, **managers: Any) -> dict[str, Any]:
    """Return settings of a host that has none of the roles of Base04 but those that are named."""
    switched_off = {role: {"provider": "none"} for role in ROLES}
    return {
        "data_dir": str(data_dir / "data"),
        "plugins": {"autoload": False},
        "managers": {**switched_off, **managers},
    }
