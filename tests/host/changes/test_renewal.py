"""New instances beside those that serve: when a secret is exchanged, and when what was down came up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from base04.app_manager import AppManager
from base04_builtin.vault.file import FileVaultManager, FileVaultSettings
from base04_hookspecs import Manager, Provider, hookimpl
from base04_hookspecs.errors import ManagerUnavailable, NotSupported
from base04_hookspecs.vault import RotationCallback, VaultManager
from host_kit import Plain, offering, only, until

CANARY = "canary-3b9d-never-shown"


class LampSettings(BaseModel):
    user: str = ""
    password: str


class Lamp(Plain):
    """Its backend accepts only the passwords in ``accepted``; every start is noted, with what it started with."""

    role = "lamp"
    accepted: set[str] | None = None
    starts: list[tuple[str, str]]
    stopped: list[str]

    def __init__(self, settings: LampSettings) -> None:
        self.settings = settings
        self.open = False

    async def start(self) -> None:
        self.starts.append((self.settings.user, self.settings.password))
        if self.accepted is not None and self.settings.password not in self.accepted:
            raise PermissionError("the backend refuses the password")
        self.open = True

    async def stop(self) -> None:
        self.open = False
        self.stopped.append(self.settings.password)


class Reader(Plain):
    """Holds a lamp."""

    role = "reader"

    def __init__(self, lamp: Lamp) -> None:
        self.lamp = lamp


class Bystander(Plain):
    """Holds nothing."""

    role = "bystander"


class Deaf(FileVaultManager):
    """Announces nothing."""

    async def watch_secret(self, path: str, callback: RotationCallback) -> bool:
        raise NotSupported("This vault announces no rotations.")


@asynccontextmanager
async def house(
    tmp_path: Path, *, vault: type[VaultManager] = FileVaultManager, secrets: str = "first", **managers: Any
) -> AsyncIterator[tuple[AppManager, VaultManager, type[Lamp]]]:
    """Run a host with a lamp whose password is in the vault, one that reads by it, and a bystander."""
    writer = FileVaultManager(settings_of(tmp_path))
    await writer.start()
    await writer.set_secret_value("app/lamp", "password", secrets)
    await writer.set_secret_value("app/lamp", "user", "ada")
    lamp = type("OwnLamp", (Lamp,), {"starts": [], "stopped": [], "__module__": __name__})
    settings = only(
        tmp_path,
        vault={"path": str(tmp_path / "secrets.json"), "watch_interval": "0.02"},
        lamp={"user": "${secret:app/lamp#user}", "password": "${secret:app/lamp#password}", **managers.pop("lamp", {})},
        **managers,
    )
    plugins = [("house", offering(cast("type[Manager]", lamp), Reader, Bystander)), ("vaults", offering_vault(vault))]
    async with AppManager(settings, plugins=plugins) as app:
        try:
            yield app, writer, cast("type[Lamp]", lamp)
        finally:
            await writer.stop()


def offering_vault(cls: type[VaultManager]) -> object:
    @hookimpl
    def vault_providers() -> list[Provider]:
        return [Provider("own", cls)]

    return SimpleNamespace(vault_providers=vault_providers)


def settings_of(tmp_path: Path) -> FileVaultSettings:
    return FileVaultSettings(path=tmp_path / "secrets.json")


async def test_exchanged_secret_renews_who_uses_it_and_who_holds_them(tmp_path: Path) -> None:
    async with house(tmp_path) as (app, vault, lamp):
        before = {role: app.get_manager(role) for role in ("lamp", "reader", "bystander", "vault")}
        await vault.set_secret_value("app/lamp", "password", "second")
        await until(lambda: app.get_manager("lamp") is not before["lamp"])
        renewed = cast("Lamp", app.get_manager("lamp"))
        reader = cast("Reader", app.get_manager("reader"))
        assert (renewed.settings.password, renewed.open) == ("second", True)
        assert reader.lamp is renewed
        assert app.get_manager("bystander") is before["bystander"]
        assert app.get_manager("vault") is before["vault"]
        await until(lambda: lamp.stopped == ["first"])
    assert lamp.stopped == ["first", "second"]


async def test_user_and_password_that_change_one_after_the_other_are_used_together(tmp_path: Path) -> None:
    async with house(tmp_path) as (app, vault, lamp):
        before = app.get_manager("lamp")
        await vault.set_secret_value("app/lamp", "user", "grace")
        await vault.set_secret_value("app/lamp", "password", "second")
        await until(lambda: cast("Lamp", app.get_manager("lamp")).settings.password == "second")
        assert app.get_manager("lamp") is not before
    assert lamp.starts[-1] == ("grace", "second")


async def test_request_under_way_keeps_the_old_instance_to_its_end(tmp_path: Path) -> None:
    async with house(tmp_path) as (app, vault, lamp):
        with app.generation.pin():
            held = cast("Lamp", app.get_manager("lamp"))
            await vault.set_secret_value("app/lamp", "password", "second")
            await until(lambda: app.newest is not None and app.newest.find("lamp") is not held)
            assert app.get_manager("lamp") is held
            assert held.open, "old and new serve side by side"
        await until(lambda: lamp.stopped == ["first"])
        assert app.get_manager("lamp") is not held


async def test_new_instance_that_fails_leaves_the_old_one_and_is_tried_again(tmp_path: Path) -> None:
    async with house(tmp_path) as (app, vault, lamp):
        before = app.get_manager("lamp")
        lamp.accepted = {"first"}
        with capture_logs() as entries:
            await vault.set_secret_value("app/lamp", "password", CANARY)
            await until(lambda: len(lamp.starts) >= 3)
        assert app.get_manager("lamp") is before
        assert cast("Lamp", before).open
        assert any("not renewed" in entry["event"] for entry in entries)
        assert CANARY not in repr(entries)
        lamp.accepted = {CANARY}
        await until(lambda: app.get_manager("lamp") is not before)
        assert cast("Lamp", app.get_manager("lamp")).settings.password == CANARY


async def test_new_instance_of_what_is_not_required_keeps_the_old_one_as_well(tmp_path: Path) -> None:
    async with house(tmp_path, lamp={"required": False}, reader={"required": False}) as (app, vault, lamp):
        before, reader = app.get_manager("lamp"), app.get_manager("reader")
        lamp.accepted = {"first"}
        await vault.set_secret_value("app/lamp", "password", "second")
        await until(lambda: len(lamp.starts) >= 2)
        lamp.accepted = {"third"}
        await vault.set_secret_value("app/lamp", "password", "third")
        await until(lambda: app.get_manager("lamp") is not before)
        assert app.get_manager("reader") is not reader
    assert not {"first", "third"} - {password for _, password in lamp.starts}


async def test_secret_that_has_gone_changes_nothing_until_there_is_a_new_one(tmp_path: Path) -> None:
    async with house(tmp_path) as (app, vault, _):
        before = app.get_manager("lamp")
        with capture_logs() as entries:
            await vault.delete_secret("app/lamp")
            await until(lambda: any("has gone" in entry["event"] for entry in entries))
        assert app.get_manager("lamp") is before
        await vault.set_secret_value("app/lamp", "user", "ada")
        await vault.set_secret_value("app/lamp", "password", "second")
        await until(lambda: app.get_manager("lamp") is not before)


class Watched(FileVaultManager):
    """Tells when somebody began to watch."""

    watching: ClassVar[asyncio.Event]

    async def watch_secret(self, path: str, callback: RotationCallback) -> bool:
        done = await super().watch_secret(path, callback)
        self.watching.set()
        return done


async def test_other_key_of_the_path_renews_nobody(tmp_path: Path) -> None:
    Watched.watching = asyncio.Event()
    async with house(tmp_path, vault=Watched) as (app, vault, lamp):
        before = app.get_manager("lamp")
        await Watched.watching.wait()
        with capture_logs() as entries:
            await vault.set_secret_value("app/lamp", "comment", "of no interest")
            await until(lambda: any(entry["event"] == "a secret was exchanged" for entry in entries))
        await vault.set_secret_value("app/lamp", "password", "second")
        await until(lambda: app.get_manager("lamp") is not before)
    assert [password for _, password in lamp.starts] == ["first", "second"]


class Hasty(FileVaultManager):
    """Exchanges the password between the start of the lamp and the first watch, as somebody else could."""

    async def watch_secret(self, path: str, callback: RotationCallback) -> bool:
        await self.set_secret_value("app/lamp", "password", "second")
        return await super().watch_secret(path, callback)


async def test_secret_exchanged_before_it_was_watched_is_noticed(tmp_path: Path) -> None:
    async with house(tmp_path, vault=Hasty) as (_, _, lamp):
        await until(lambda: ("ada", "second") in lamp.starts)


async def test_vault_that_announces_nothing_is_told_about_once(tmp_path: Path) -> None:
    with capture_logs() as entries:
        async with house(tmp_path, vault=Deaf) as (_, vault, lamp):
            told = "the vault announces no rotations: restart after exchanging a secret"
            await until(lambda: [entry["event"] for entry in entries].count(told) == 1)
            await vault.set_secret_value("app/lamp", "password", "second")
    assert [entry["event"] for entry in entries].count(told) == 1
    assert lamp.starts == [("ada", "first")]


async def test_nobody_watches_where_no_settings_name_secrets(tmp_path: Path) -> None:
    async with AppManager(only(tmp_path), plugins=[("house", offering(Bystander))]):
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert "rotation" not in names


async def test_stop_ends_a_renewal_under_way_and_leaves_nothing_running(tmp_path: Path) -> None:
    reached = asyncio.Event()

    async with house(tmp_path) as (app, vault, lamp):
        first = lamp.start

        async def hang(self: Lamp) -> None:
            await first(self)
            reached.set()
            await asyncio.Event().wait()

        lamp.start = hang  # type: ignore[method-assign]  # for instances to come
        await vault.set_secret_value("app/lamp", "password", "second")
        await asyncio.wait_for(reached.wait(), 30)
        await app.stop()
        assert "rotation" not in {task.get_name() for task in asyncio.all_tasks()}
        assert sorted(lamp.stopped) == ["first", "second"]
        with pytest.raises(ManagerUnavailable):
            app.get_manager("lamp")
