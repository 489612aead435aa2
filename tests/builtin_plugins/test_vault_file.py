"""The provider ``file`` of the role ``vault``."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import stat
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from base04.testing.conformance.vault import CANARY, Another, VaultConformance
from base04_builtin.vault import vault_providers
from base04_builtin.vault.file import FileVaultManager, FileVaultSettings
from base04_hookspecs.errors import ConfigurationError, ManagerUnavailable, NotFound

SECRETS = {"app/database": {"password": CANARY}}


@asynccontextmanager
async def vault_at(
    path: Path, *, lock_timeout: float = 10.0, watch_interval: float = 0.02
) -> AsyncIterator[FileVaultManager]:
    manager = FileVaultManager(FileVaultSettings(path=path, lock_timeout=lock_timeout, watch_interval=watch_interval))
    try:
        await manager.start()
        yield manager
    finally:
        await manager.stop()


def write_file(path: Path, content: str | bytes, mode: int = 0o600) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    path.chmod(mode)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "secrets.json"


class TestFileVaultConformance(VaultConformance):
    capabilities = next(iter(vault_providers())).capabilities

    @pytest.fixture
    async def manager(self, path: Path) -> AsyncIterator[FileVaultManager]:
        async with vault_at(path) as manager:
            yield manager

    @pytest.fixture
    def another(self, path: Path) -> Another:
        return lambda: vault_at(path)


def test_provider_is_the_default_and_can_watch() -> None:
    (provider,) = (each for each in vault_providers() if each.default)
    assert (provider.name, provider.default, provider.capabilities) == ("file", True, frozenset({"watch", "shared"}))


async def test_file_is_made_for_the_owner_alone_whatever_the_umask(path: Path) -> None:
    before = os.umask(0o277)
    try:
        path.parent.mkdir(mode=0o700)
        path.parent.chmod(0o700)
        async with vault_at(path) as vault:
            await vault.set_secret_value("app/x", "key", "value")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert json.loads(path.read_text()) == {"app/x": {"key": "value"}}


async def test_secrets_outlive_the_manager(path: Path) -> None:
    async with vault_at(path) as vault:
        await vault.set_secret_value("app/x", "key", "value")
    async with vault_at(path) as vault:
        assert await vault.get_secret_value("app/x", "key") == "value"


async def test_file_written_by_hand_is_read(tmp_path: Path) -> None:
    path = write_file(tmp_path / "secrets.json", '{"flask-app/mongodb": {"root_password": "hunter2"}}')
    async with vault_at(path) as vault:
        assert await vault.get_secret_value("flask-app/mongodb", "root_password") == "hunter2"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666])
async def test_file_that_others_can_use_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    path = write_file(tmp_path / "secrets.json", json.dumps(SECRETS), mode)
    with pytest.raises(ConfigurationError, match=f"mode {mode:04o}.*chmod 600 {path}") as caught:
        async with vault_at(path):
            pass
    assert CANARY not in str(caught.value)


async def test_mode_is_enforced_at_every_open(path: Path) -> None:
    async with vault_at(path) as vault:
        await vault.set_secret_value("app/x", "key", "value")
        path.chmod(0o644)
        with pytest.raises(ConfigurationError, match="chmod 600"):
            await vault.get_secret_value("app/x", "key")
        with pytest.raises(ConfigurationError, match="chmod 600"):
            await vault.set_secret_value("app/x", "key", "other")
        assert (await vault.health_check())["status"] == "unhealthy"
        assert (await vault.get_connection_info())["authenticated"] is False
        path.chmod(0o600)
        assert await vault.get_secret_value("app/x", "key") == "value"
        assert (await vault.health_check())["status"] == "healthy"


@pytest.mark.parametrize("dangling", [False, True])
async def test_symbolic_link_is_refused(tmp_path: Path, dangling: bool) -> None:
    target = tmp_path / "elsewhere.json"
    if not dangling:
        write_file(target, "{}")
    (tmp_path / "secrets.json").symlink_to(target)
    with pytest.raises(ConfigurationError, match="symbolic link"):
        async with vault_at(tmp_path / "secrets.json"):
            pass
    assert target.exists() is not dangling


async def test_symbolic_link_in_place_of_the_lock_is_refused(tmp_path: Path) -> None:
    path = write_file(tmp_path / "secrets.json", "{}")
    victim = write_file(tmp_path / "victim", "untouched")
    (tmp_path / "secrets.json.lock").symlink_to(victim)
    async with vault_at(path) as vault:
        with pytest.raises(ConfigurationError, match="symbolic link"):
            await vault.set_secret_value("app/x", "key", "value")
    assert victim.read_text() == "untouched"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
async def test_file_of_another_user_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = write_file(tmp_path / "secrets.json", "{}")
    os.chown(path, 12345, -1)
    with pytest.raises(ConfigurationError, match=r"belongs to the user 12345.*chown"):
        async with vault_at(path):
            pass


@pytest.mark.parametrize("kind", ["folder", "pipe"])
async def test_something_else_in_place_of_the_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "secrets.json"
    path.mkdir(0o700) if kind == "folder" else os.mkfifo(path, 0o600)
    with pytest.raises(ConfigurationError, match="not a regular file"):
        async with vault_at(path):
            pass


@pytest.mark.parametrize(
    "content",
    [
        f'{{"app": {{"key": "{CANARY}"',
        f'{{"app": "{CANARY}"}}',
        f'{{"app": {{"key": ["{CANARY}"]}}}}',
        f'["{CANARY}"]',
        f'{{"app": {{"key": "{CANARY}", "key": "other"}}}}',
        b'{"app": {"key": "\xff' + CANARY.encode() + b'"}}',
        "",
        "[" * 100_000,
    ],
)
async def test_damaged_file_is_refused_without_its_content(tmp_path: Path, content: str | bytes) -> None:
    path = write_file(tmp_path / "secrets.json", content)
    with pytest.raises(ConfigurationError, match=f"The secrets file {path} cannot be used: .*Restore it") as caught:
        async with vault_at(path):
            pass
    chain: BaseException | None = caught.value
    while chain is not None:
        assert CANARY not in repr(chain) + repr(vars(chain))
        chain = chain.__cause__ or chain.__context__
    assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)


async def test_file_that_has_gone_is_not_taken_for_an_empty_one(path: Path) -> None:
    async with vault_at(path) as vault:
        await vault.create_secret_value("base04/jwt", "key", "precious")
        path.unlink()
        with pytest.raises(ManagerUnavailable, match="has gone"):
            await vault.create_secret_value("base04/jwt", "key", "another")
        assert not path.exists()
        assert (await vault.health_check())["status"] == "unhealthy"


async def test_settings_refuse_unknown_keys_and_lie_in_the_data_folder(tmp_path: Path) -> None:
    settings = FileVaultSettings.model_validate({}, context={"data_dir": tmp_path})
    assert settings.path == tmp_path / "secrets.json"
    with pytest.raises(ValueError, match="pth"):
        FileVaultSettings.model_validate({"pth": "x"})


async def test_lock_held_by_another_process_is_reported_in_time(path: Path) -> None:
    async with vault_at(path, lock_timeout=0.05) as vault:
        await vault.set_secret_value("app/x", "key", "value")
        with open(path.with_name("secrets.json.lock")) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            with pytest.raises(ManagerUnavailable, match="locked by another process"):
                await vault.set_secret_value("app/x", "key", "other")
            assert await vault.get_secret_value("app/x", "key") == "value"
        assert await vault.set_secret_value("app/x", "key", "other") is True


async def test_event_loop_goes_on_while_the_lock_is_awaited(path: Path) -> None:
    async with vault_at(path) as vault:
        await vault.set_secret_value("app/x", "key", "value")
        with open(path.with_name("secrets.json.lock")) as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            writing = asyncio.create_task(vault.set_secret_value("app/x", "key", "other"))
            for _ in range(10):
                assert await vault.get_secret_value("app/x", "key") == "value"
            assert not writing.done()
        assert await writing is True


async def test_file_of_the_old_content_is_never_seen_half_written(path: Path) -> None:
    async with vault_at(path) as writer, vault_at(path) as reader:
        await writer.set_secret_value("app/x", "key", "0" * 50_000)

        async def write() -> None:
            for digit in "123456789":
                await writer.set_secret_value("app/x", "key", digit * 50_000)

        writing = asyncio.create_task(write())
        while not writing.done():
            value = await reader.get_secret_value("app/x", "key")
            assert value == value[0] * 50_000
        await writing


PROCESS = """
import asyncio, os, sys
from pathlib import Path
from base04_builtin.vault.file import FileVaultManager, FileVaultSettings

async def main() -> None:
    vault = FileVaultManager(FileVaultSettings(path=Path(sys.argv[1])))
    await vault.start()
    print("ready", flush=True)
    sys.stdin.readline()
    await act(vault)
    await vault.stop()
"""

CREATE = """
async def act(vault):
    print(await vault.create_secret_value("app/race", "key", f"from-{os.getpid()}"))
    for number in range(10):
        await vault.set_secret_value("app/many", f"{os.getpid()}-{number}", "x")
"""

DIE_BEFORE_RENAME = """
async def act(vault):
    os.replace = lambda *names: os._exit(9)
    await vault.set_secret_value("app/x", "key", "new")
"""

CHANGE = """
async def act(vault):
    await vault.set_secret_value("app/watched", "key", "new")
"""


def start_process(path: Path, act: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS + act + "asyncio.run(main())", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def test_processes_that_create_at_once_get_one_secret_and_lose_no_write(path: Path) -> None:
    processes = [start_process(path, CREATE) for _ in range(3)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    printed = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(set(printed)) == 1
    stored = json.loads(path.read_text())
    assert stored["app/race"] == {"key": printed[0].strip()}
    assert len(stored["app/many"]) == 30


async def test_writer_that_dies_before_the_rename_leaves_the_old_content(path: Path) -> None:
    async with vault_at(path) as vault:
        await vault.set_secret_value("app/x", "key", "old")
        process = await asyncio.to_thread(start_process, path, DIE_BEFORE_RENAME)
        await asyncio.to_thread(process.communicate, "go\n", 60)
        assert process.returncode == 9
        assert path.with_name(".secrets.json.tmp").exists()
        assert await vault.get_secret_value("app/x", "key") == "old"
        assert await vault.set_secret_value("app/x", "key", "newer") is True
        assert await vault.get_secret_value("app/x", "key") == "newer"
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["secrets.json", "secrets.json.lock"]


async def test_full_disk_leaves_the_old_content(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    async with vault_at(path) as vault:
        await vault.set_secret_value("app/x", "key", "old")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", fail)
            with pytest.raises(ManagerUnavailable, match="No space left"):
                await vault.set_secret_value("app/x", "key", "new")
        assert await vault.get_secret_value("app/x", "key") == "old"
        assert not path.with_name(".secrets.json.tmp").exists()


async def test_change_by_another_process_is_announced(path: Path) -> None:
    announced: asyncio.Queue[str] = asyncio.Queue()
    async with vault_at(path) as vault:
        await vault.watch_secret("app/watched", announced.put)
        process = await asyncio.to_thread(start_process, path, CHANGE)
        await asyncio.to_thread(process.communicate, "go\n", 60)
        assert await asyncio.wait_for(announced.get(), 30) == "app/watched"
        assert await vault.get_secret_value("app/watched", "key") == "new"


async def test_callback_may_use_the_vault(path: Path) -> None:
    seen: asyncio.Queue[str] = asyncio.Queue()
    async with vault_at(path) as vault:

        async def rotated(changed: str) -> None:
            await vault.set_secret_value("app/seen", "key", changed)
            await seen.put(await vault.get_secret_value(changed, "key"))

        await vault.watch_secret("app/watched", rotated)
        await vault.set_secret_value("app/watched", "key", "new")
        assert await asyncio.wait_for(seen.get(), 30) == "new"
        assert await vault.get_secret_value("app/seen", "key") == "app/watched"


async def test_watching_survives_a_file_that_cannot_be_read_for_a_while(path: Path) -> None:
    announced: asyncio.Queue[str] = asyncio.Queue()
    async with vault_at(path) as vault:
        await vault.watch_secret("app/watched", announced.put)
        path.chmod(0o644)
        with pytest.raises(ConfigurationError):
            await vault.set_secret_value("app/watched", "key", "refused")
        path.chmod(0o600)
        await vault.set_secret_value("app/watched", "key", "new")
        assert await asyncio.wait_for(announced.get(), 30) == "app/watched"


async def test_stop_ends_watching_and_is_safe_without_a_start(path: Path) -> None:
    async with vault_at(path) as vault:
        await vault.watch_secret("app/watched", lambda changed: None)
        assert "vault-watch" in {task.get_name() for task in asyncio.all_tasks()}
    assert "vault-watch" not in {task.get_name() for task in asyncio.all_tasks()}
    await FileVaultManager(FileVaultSettings(path=path)).stop()


async def test_canary_is_in_the_file_and_nowhere_else(path: Path) -> None:
    def fail(changed: str) -> None:
        raise RuntimeError("broken")

    announced: asyncio.Queue[str] = asyncio.Queue()
    with capture_logs() as entries:
        async with vault_at(path) as vault:
            await vault.watch_secret("app/x", fail)
            await vault.watch_secret("app/x", announced.put)
            await vault.set_secret_value("app/x", "key", CANARY)
            await asyncio.wait_for(announced.get(), 30)
            with pytest.raises(NotFound) as caught:
                await vault.get_secret_value("app/x", "nothing")
            shown = [repr(vault), repr(vars(vault)), repr(caught.value), await vault.health_check()]
    assert CANARY not in repr(shown)
    assert "rotation callback failed" in {entry["event"] for entry in entries}
    assert CANARY not in repr(entries)
    assert CANARY in path.read_text()
