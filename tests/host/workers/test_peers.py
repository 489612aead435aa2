from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from base04.workers import peers
from base04.workers.messages import Peer, Roster
from base04_hookspecs.app import WorkerReport


def peer(number: int, path: Path) -> Peer:
    report: WorkerReport = {"worker": number, "pid": 1, "status": "serving", "revision": 1, "health": None}
    return Peer(report, str(path))


async def answering(path: Path, answer: bytes) -> asyncio.Server:
    async def answer_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    return await asyncio.start_unix_server(answer_once, path)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "503"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", "in full"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "in full"),
        (b"", "in full"),
    ],
)
async def test_answer_that_is_none_is_refused(tmp_path: Path, answer: bytes, fault: str) -> None:
    async with await answering(tmp_path / "s", answer):
        with pytest.raises(ValueError, match=fault):
            await peers.get(str(tmp_path / "s"), "/")


async def test_one_that_is_gone_or_silent_does_not_fail_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "TIMEOUT_S", 0.2)
    told = b"# TYPE up gauge\nup 1.0\n"
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(told), told)
    silent = asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    roster = Roster(
        1, (peer(1, tmp_path), peer(2, tmp_path / "2"), peer(3, tmp_path / "3"), peer(4, tmp_path / "4")), 0
    )
    async with await answering(tmp_path / "2", answer), await asyncio.start_unix_server(say_nothing, tmp_path / "3"):
        found = (await peers.whole_metrics(told, 1, roster)).decode()
        silent.set()
    assert 'up{worker="1"} 1.0' in found
    assert 'up{worker="2"} 1.0' in found
    assert 'base04_worker_up{worker="3"} 0.0' in found
    assert 'base04_worker_up{worker="4"} 0.0' in found
