from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from base04.app_manager import AppManager
from base04.changes import recovery
from base04.generation import Generation
from base04_hookspecs import Manager
from base04_hookspecs.errors import ManagerUnavailable
from host_kit import Plain, noting, offering, only, raising, until

DOWN = {"required": False, "start_timeout": "10ms"}


class Alpha(Plain):
    role = "alpha"


class Beta(Plain):
    """Needs alpha, so it is absent with it."""

    role = "beta"

    def __init__(self, alpha: Alpha) -> None:
        self.alpha = alpha


class Gamma(Plain):
    """Does without alpha."""

    role = "gamma"

    def __init__(self, alpha: Alpha | None) -> None:
        self.alpha = alpha


class Delta(Plain):
    """Needs gamma, so it is made anew with it."""

    role = "delta"

    def __init__(self, gamma: Gamma) -> None:
        self.gamma = gamma


class Both(Plain):
    """Needs alpha and gamma, which is made anew when alpha comes up."""

    role = "both"

    def __init__(self, alpha: Alpha, gamma: Gamma) -> None:
        self.alpha, self.gamma = alpha, gamma


class Zeta(Plain):
    role = "zeta"


class Backend:
    """What a manager needs: it is away until the test says otherwise."""

    def __init__(self) -> None:
        self.there = False
        self.asked = asyncio.Event()

    async def __call__(self, _: Any) -> None:
        self.asked.set()
        if not self.there:
            raise ManagerUnavailable("the backend is away")


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recovery, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(recovery, "_LONGEST_WAIT_S", 0.02)


def host(tmp_path: Path, *classes: type[Manager], **managers: Any) -> AppManager:
    return AppManager(only(tmp_path, **managers), plugins=[("lights", offering(*classes))])


async def generation_where(app: AppManager, holds: Callable[[Generation], bool]) -> Generation:
    await until(lambda: holds(app.generation))
    return app.generation


async def test_recovery_makes_a_generation_with_new_instances_for_what_depends_on_it(tmp_path: Path) -> None:
    backend, journal = Backend(), list[str]()
    classes = [noting(cls, journal) for cls in (Beta, Gamma, Delta, Both, Zeta)]
    optional = {"required": False}
    app = host(tmp_path, noting(Alpha, journal, start=backend), *classes, alpha=DOWN, beta=optional, both=optional)
    async with app:
        first = app.generation
        assert {str(key) for key in first.down} == {"alpha", "beta", "both"}
        old_gamma, old_delta, zeta = first.get("gamma"), first.get("delta"), first.get("zeta")
        backend.there = True
        second = await generation_where(app, lambda generation: not generation.down)
        assert second is not first
        alpha, gamma = second.get("alpha"), second.get("gamma")
        assert isinstance(gamma, Gamma)
        assert gamma is not old_gamma
        assert gamma.alpha is alpha
        delta, both, beta = second.get("delta"), second.get("both"), second.get("beta")
        assert isinstance(delta, Delta)
        assert isinstance(both, Both)
        assert isinstance(beta, Beta)
        assert delta is not old_delta
        assert delta.gamma is both.gamma is gamma
        assert both.alpha is beta.alpha is alpha
        assert second.get("zeta") is zeta
        assert "stop zeta" not in journal
    for role in ("alpha", "beta", "gamma", "delta", "both", "zeta"):
        started, stopped = journal.count(f"start {role}"), journal.count(f"stop {role}")
        failed = stopped - started
        assert failed >= 0 if role == "alpha" else failed == 0, f"{role} was started {started} times"


async def test_recovery_stops_the_old_dependants_once_they_are_unpinned(tmp_path: Path) -> None:
    backend, journal = Backend(), list[str]()
    app = host(tmp_path, noting(Alpha, [], start=backend), noting(Gamma, journal), alpha=DOWN)
    async with app:
        first = app.generation
        with first.pin():
            backend.there = True
            await until(lambda: app.newest is not first)
            assert app.generation is first
            assert "stop gamma" not in journal
        await until(lambda: "stop gamma" in journal)
    assert journal == ["start gamma", "start gamma", "stop gamma", "stop gamma"]


async def test_recovery_of_one_does_not_wait_for_another(tmp_path: Path) -> None:
    one, other = Backend(), Backend()
    classes = [noting(Alpha, [], start=one), noting(Zeta, [], start=other), Gamma]
    async with host(tmp_path, *classes, alpha=DOWN, zeta=DOWN) as app:
        one.there = True
        generation = await generation_where(app, lambda generation: generation.find("alpha") is not None)
        assert [str(key) for key in generation.down] == ["zeta"]
        other.there = True
        generation = await generation_where(app, lambda generation: generation.find("zeta") is not None)
        assert not generation.down


async def test_recovery_gives_up_what_it_started_when_a_dependant_cannot_follow(tmp_path: Path) -> None:
    backend, journal = Backend(), list[str]()
    trouble: list[Exception] = []

    async def start(_: Any) -> None:
        if trouble:
            raise trouble.pop()

    app = host(tmp_path, noting(Alpha, journal, start=backend), noting(Gamma, journal, start=start), alpha=DOWN)
    async with app:
        first = app.generation
        trouble.append(ValueError("cannot start again"))
        backend.there = True
        second = await generation_where(app, lambda generation: not generation.down)
        assert second is not first
    assert journal.count("start alpha") == 2
    assert journal.count("start gamma") == 2
    assert journal[-2:] == ["stop gamma", "stop alpha"]


async def test_recovery_ends_with_the_host(tmp_path: Path) -> None:
    backend, journal = Backend(), list[str]()
    app = host(tmp_path, noting(Alpha, journal, start=backend), alpha=DOWN)
    await app.start()
    backend.asked.clear()
    await backend.asked.wait()
    await app.stop()
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "recovery"]
    assert "start alpha" not in journal


async def test_recovery_goes_on_after_an_error_that_nobody_foresaw(tmp_path: Path) -> None:
    fail = raising(ManagerUnavailable("away"), *[RuntimeError("odd")] * 3)
    async with host(tmp_path, noting(Alpha, [], start=fail), alpha={**DOWN, "start_timeout": "1ms"}) as app:
        generation = await generation_where(app, lambda generation: not generation.down)
        assert generation.find("alpha") is not None
