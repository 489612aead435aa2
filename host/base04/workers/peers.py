"""What the other workers say of themselves, each over its own socket."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Final

import structlog

from base04.workers import messages

TIMEOUT_S: Final = 2.0
"""How long a worker may take to answer another."""

_MOST_BYTES: Final = 64 * 2**20
_OWN_METRICS: Final = "/metrics?own=true"

_log = structlog.get_logger()


async def whole_metrics(own: bytes, number: int, roster: messages.Roster) -> bytes:
    """Ask the others for their metrics, and return those of all together.

    Args:
        own: those of this worker, in the text format of Prometheus.
        number: which worker this is.
        roster: all workers.
    """
    from base04.workers.exposition import together

    others = [peer for peer in roster.peers if peer.report["worker"] != number and peer.report["status"] != "down"]
    answers = await asyncio.gather(*(_asked(peer) for peer in others))
    texts = {number: own}
    texts |= {peer.report["worker"]: text for peer, text in zip(others, answers, strict=True) if text is not None}
    return await asyncio.to_thread(together, texts, roster)


async def _asked(peer: messages.Peer) -> bytes | None:
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await get(peer.socket, _OWN_METRICS)
    except (OSError, TimeoutError, ValueError) as error:
        _log.warning("a worker did not tell its metrics", asked=peer.report["worker"], error=repr(error))
        return None


async def get(path: str, target: str) -> bytes:
    """Return the body that is answered over a Unix socket.

    Raises:
        OSError: nobody answers.
        ValueError: the answer is no success, or no HTTP.
    """
    reader, writer = await asyncio.open_unix_connection(path, limit=_MOST_BYTES)
    try:
        writer.write(f"GET {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        status, *fields = head.split("\r\n")
        if status.split(" ")[1:2] != ["200"]:
            raise ValueError(f"it answered {status!r}")
        headers = dict(field.lower().split(": ", 1) for field in fields if ": " in field)
        return await reader.readexactly(int(headers["content-length"]))
    except (asyncio.IncompleteReadError, KeyError) as error:
        raise ValueError("it did not answer in full") from error
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
