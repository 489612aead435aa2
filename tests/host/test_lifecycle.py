from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from base04.app_manager import AppManager
from base04.errors import StartError, StopError
from base04.selection import InstanceKey
from base04_hookspecs import Manager, Use
from base04_hookspecs.errors import ConfigurationError, ManagerUnavailable
from base04_hookspecs.vault import VaultManager
from host_kit import Plain, hanging, noting, offering, only, raising


class LampSettings(BaseModel):
    colour: str = "white"
    watts: int = 5


class Alpha(Plain):
    role = "alpha"


class Beta(Plain):
    role = "beta"

    def __init__(self, alpha: Alpha) -> None:
        self.alpha = alpha


class Gamma(Plain):
    role = "gamma"


class MayHave(Plain):
    role = "delta"

    def __init__(self, alpha: Alpha | None) -> None:
        self.alpha = alpha


class Lamp(Plain):
    role = "lamp"

    def __init__(self, settings: LampSettings, other: Annotated[Alpha | None, Use("hall")]) -> None:
        self.settings, self.other = settings, other


def host(tmp_path: Path, *classes: type[Manager], **managers: Any) -> AppManager:
    return AppManager(only(tmp_path, **managers), plugins=[("lights", offering(*classes))])


async def test_start_gives_managers_what_they_need_and_stop_reverses_the_order(tmp_path: Path) -> None:
    journal: list[str] = []
    app = host(tmp_path, noting(Alpha, journal), noting(Beta, journal))
    await app.start()
    beta = app.get_manager("beta")
    assert isinstance(beta, Beta)
    assert beta.alpha is app.get_manager("alpha")
    await app.stop()
    assert journal == ["start alpha", "start beta", "stop beta", "stop alpha"]


async def test_start_of_independent_managers_is_concurrent(tmp_path: Path) -> None:
    journal: list[str] = []
    both = asyncio.Barrier(2)

    async def meet(_: Any) -> None:
        await both.wait()

    async with host(tmp_path, noting(Alpha, journal, start=meet), noting(Gamma, journal, start=meet)):
        assert sorted(journal) == ["start alpha", "start gamma"]


@pytest.mark.parametrize("error", [ManagerUnavailable("not yet"), ConnectionRefusedError("not yet"), TimeoutError()])
async def test_start_is_tried_again_with_fresh_instances(tmp_path: Path, error: Exception) -> None:
    instances: list[int] = []
    journal: list[str] = []
    fail = raising(error, error)

    async def start(manager: Any) -> None:
        instances.append(id(manager))
        await fail(manager)

    alpha = noting(Alpha, journal, start=start)
    kept: list[Manager] = []

    async def stop(manager: Any) -> None:
        kept.append(manager)  # so that no later instance has its id

    alpha = noting(alpha, [], start=alpha.start, stop=stop)
    async with host(tmp_path, alpha) as app:
        running = app.generation.running[InstanceKey("alpha")]
        assert running.attempts == 3
        assert len(set(instances)) == 3
        assert len(kept) == 2


async def test_start_tries_until_the_timeout_and_names_manager_provider_plugin_and_cause(tmp_path: Path) -> None:
    journal: list[str] = []
    fail = raising(*[ManagerUnavailable("nobody listens at port 1")] * 1000)
    app = host(tmp_path, noting(Alpha, journal, start=fail), alpha={"start_timeout": "300ms"})
    with pytest.raises(StartError) as refused:
        await app.start()
    assert str(refused.value) == (
        "The manager alpha (own of plugin lights (types:SimpleNamespace)) did not start: nobody listens at port 1"
    )
    assert isinstance(refused.value.__cause__, ManagerUnavailable)
    assert set(journal) == {"stop alpha"}
    assert not app.is_initialized()


@pytest.mark.parametrize("error", [ValueError("bad"), ConfigurationError("bad"), asyncio.CancelledError("bad")])
async def test_start_that_fails_otherwise_is_final(tmp_path: Path, error: BaseException) -> None:
    journal: list[str] = []
    app = host(tmp_path, noting(Alpha, journal, start=raising(error)))
    with pytest.raises(StartError, match=r"alpha \(own of plugin lights"):
        await app.start()
    assert journal == ["stop alpha"]


async def test_start_that_hangs_is_cut(tmp_path: Path) -> None:
    journal: list[str] = []
    app = host(tmp_path, noting(Alpha, journal, start=hanging), alpha={"start_timeout": "50ms"})
    with pytest.raises(StartError, match=r"did not start: It did not start within 0\.05 s\."):
        await app.start()
    assert journal == ["stop alpha"]


async def test_start_that_fails_stops_what_had_started_in_reverse(tmp_path: Path) -> None:
    journal: list[str] = []
    classes = [noting(Alpha, journal), noting(Beta, journal), noting(Omega, journal, start=raising(ValueError("no")))]
    app = host(tmp_path, *classes)
    with pytest.raises(StartError, match="omega"):
        await app.start()
    assert journal == ["start alpha", "start beta", "stop omega", "stop beta", "stop alpha"]
    async with host(tmp_path, Alpha) as again:  # the folder is free
        assert again.is_initialized()


class Omega(Plain):
    role = "omega"

    def __init__(self, beta: Beta) -> None: ...


async def test_start_that_is_cancelled_stops_what_it_had_started(tmp_path: Path) -> None:
    journal: list[str] = []
    reached = asyncio.Event()

    async def hang(_: Any) -> None:
        reached.set()
        await hanging(_)

    app = host(tmp_path, noting(Alpha, journal), noting(Beta, journal, start=hang))
    task = asyncio.create_task(app.start())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert journal == ["start alpha", "stop beta", "stop alpha"]
    assert not app.is_initialized()


async def test_start_without_what_is_not_required(tmp_path: Path) -> None:
    down = {"required": False, "start_timeout": "20ms"}
    journal: list[str] = []
    fail = raising(*[ManagerUnavailable("nobody there")] * 1000)
    classes = [noting(Alpha, journal, start=fail), Beta, MayHave, noting(Omega, journal)]
    async with host(tmp_path, *classes, alpha=down, beta=down, omega={"required": False}) as app:
        with pytest.raises(ManagerUnavailable, match="alpha is not up: nobody there"):
            app.get_manager("alpha")
        with pytest.raises(ManagerUnavailable, match="beta is not up: It needs alpha, which is not up"):
            app.get_manager("beta")
        with pytest.raises(ManagerUnavailable, match="omega is not up: It needs beta"):
            app.get_manager("omega")
        delta = app.get_manager("delta")
        assert isinstance(delta, MayHave)
        assert delta.alpha is None


async def test_start_fails_when_a_required_manager_needs_one_that_is_down(tmp_path: Path) -> None:
    down = {"required": False, "start_timeout": "20ms"}
    fail = raising(*[ManagerUnavailable("nobody there")] * 1000)
    app = host(tmp_path, noting(Alpha, [], start=fail), Beta, alpha=down)
    with pytest.raises(StartError, match=r"beta .*It needs alpha, which is not up"):
        await app.start()


async def test_start_goes_on_when_what_is_not_required_fails_for_good(tmp_path: Path) -> None:
    alpha = noting(Alpha, [], start=raising(*[RuntimeError("bug")] * 1000))
    with capture_logs() as logs:
        async with host(tmp_path, alpha, Gamma, alpha={"required": False}) as app:
            assert "RuntimeError: bug" in app.generation.down[InstanceKey("alpha")]
    assert any(entry.get("manager") == "alpha" and entry["log_level"] == "error" for entry in logs)


async def test_stop_goes_on_past_failing_and_hanging_ones_and_reports_all(tmp_path: Path) -> None:
    journal: list[str] = []
    classes = [
        noting(Alpha, journal),
        noting(Beta, journal, stop=hanging),
        noting(Gamma, journal, stop=raising(ValueError("jammed"))),
        noting(MayHave, journal, stop=raising(asyncio.CancelledError())),
        noting(Omega, journal, stop=raising(TimeoutError("its own"))),
    ]
    app = host(tmp_path, *classes, beta={"stop_timeout": "50ms"})
    await app.start()
    with pytest.raises(StopError) as failed:
        await app.stop()
    assert {entry for entry in journal if entry.startswith("stop")} == {
        "stop alpha",
        "stop beta",
        "stop gamma",
        "stop delta",
        "stop omega",
    }
    told = str(failed.value)
    assert len(failed.value.errors) == 4
    assert "beta (own of plugin lights (types:SimpleNamespace)) did not stop within 0.05 s." in told
    assert "ValueError('jammed')" in told
    assert "delta" in told
    assert "TimeoutError('its own')" in told
    assert not app.is_initialized()
    async with host(tmp_path, Alpha) as again:  # the folder is free
        assert again.is_initialized()


async def test_settings_with_secrets_are_validated_once_the_vault_has_started(tmp_path: Path) -> None:
    data = tmp_path / "data"
    async with host(tmp_path, vault={}) as app:
        vault = app.get_manager("vault")
        assert isinstance(vault, VaultManager)
        await vault.set_secret_value("lamp", "colour", "hush-hush")
    lamp = {"own": {"colour": "very ${secret:lamp#colour}"}}
    async with host(tmp_path, Lamp, vault={}, lamp=lamp) as app:
        found = app.get_manager("lamp")
        assert isinstance(found, Lamp)
        assert found.settings.colour == "very hush-hush"
    for wrong, told in [
        ({"colour": "${secret:lamp#color}"}, r"secret 'color' at the path 'lamp'"),
        ({"watts": "${secret:lamp#colour}"}, r"managers\.lamp\.watts: Input should be a valid integer"),
        ({"color": "${secret:lamp#colour}"}, r"managers\.lamp\.color: There is no such key; did you mean 'colour'"),
    ]:
        app = host(tmp_path, Lamp, vault={}, lamp=wrong)
        with pytest.raises(StartError, match=told) as refused:
            await app.start()
        assert "hush-hush" not in str(refused.value)
    assert data.is_dir()


async def test_named_instances_go_to_who_asks_for_them(tmp_path: Path) -> None:
    async with host(tmp_path, Alpha, Lamp, alpha={"instances": {"hall": {}}}) as app:
        lamp = app.get_manager("lamp")
        assert isinstance(lamp, Lamp)
        assert lamp.other is app.get_manager("alpha", "hall")
        assert lamp.other is not app.get_manager("alpha")
