from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from base04.app_manager import AppManager
from base04.data_folder import DataFolder
from base04.errors import FolderInUse, HostError
from host_kit import Plain, offering, only

HOLD = """
import sys
from pathlib import Path
from base04.data_folder import DataFolder
folder = DataFolder(Path(sys.argv[1]))
folder.acquire()
folder.announce("http://127.0.0.1:9")
print("held", flush=True)
sys.stdin.read()
"""


class Alpha(Plain):
    role = "alpha"


def test_folder_is_made_private_and_tells_who_holds_it(tmp_path: Path) -> None:
    folder = DataFolder(tmp_path / "deep" / "data")
    assert folder.holder() is None
    folder.acquire()
    assert folder.path.stat().st_mode & 0o777 == 0o700
    assert (folder.path / "host.lock").stat().st_mode & 0o777 == 0o600
    assert folder.holder() == {"pid": os.getpid(), "socket": str(folder.socket_path), "url": None}
    folder.announce("http://127.0.0.1:8000")
    holder = DataFolder(folder.path).holder()
    assert holder is not None
    assert holder["url"] == "http://127.0.0.1:8000"
    folder.release()
    folder.release()
    assert folder.holder() is None
    folder.acquire()
    folder.release()


def test_folder_takes_one_host_of_a_process(tmp_path: Path) -> None:
    first, second = DataFolder(tmp_path), DataFolder(tmp_path)
    first.acquire()
    with pytest.raises(FolderInUse, match=f"held by process {os.getpid()}"):
        second.acquire()
    first.release()
    second.acquire()
    second.release()


def test_folder_held_by_another_process_names_it_and_is_free_when_that_is_killed(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        folder = DataFolder(tmp_path)
        with pytest.raises(FolderInUse) as refused:
            folder.acquire()
        assert str(refused.value) == (
            f"The data folder {str(tmp_path)!r} is held by process {holder.pid}, which serves http://127.0.0.1:9. "
            "Stop it, or use another data_dir."
        )
        found = folder.holder()
        assert found is not None
        assert found["pid"] == holder.pid
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert folder.holder() is None
    folder.acquire()
    assert json.loads((tmp_path / "host.lock").read_text())["pid"] == os.getpid()
    folder.release()


def test_folder_held_by_who_wrote_nothing_is_refused_too(tmp_path: Path) -> None:
    first = DataFolder(tmp_path)
    first.acquire()
    (tmp_path / "host.lock").write_text("not json")
    with pytest.raises(FolderInUse, match="held by another process"):
        DataFolder(tmp_path).acquire()
    assert DataFolder(tmp_path).holder() == {}
    first.release()


def test_folder_that_cannot_be_made_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match=r"cannot be used: Not a directory\. Make it writable"):
        DataFolder(tmp_path / "file" / "data").acquire()


def test_folder_with_a_long_path_has_its_socket_elsewhere(tmp_path: Path) -> None:
    long = DataFolder(tmp_path / ("x" * 100))
    assert len(os.fsencode(long.socket_path)) <= 100
    assert long.socket_path != DataFolder(tmp_path / ("y" * 100)).socket_path
    short = DataFolder(Path("/var/lib/b"))
    assert short.socket_path == Path("/var/lib/b/control.sock")


async def test_second_host_in_a_folder_is_refused_and_starts_nothing(tmp_path: Path) -> None:
    started: list[str] = []

    class Telling(Alpha):
        async def start(self) -> None:
            started.append("alpha")

    async with AppManager(only(tmp_path), plugins=[("lights", offering(Alpha))]):
        second = AppManager(only(tmp_path), plugins=[("lights", offering(Telling))])
        with pytest.raises(FolderInUse):
            await second.start()
        assert not started
        await second.stop()
    async with second:
        assert started == ["alpha"]
