"""The process of one worker."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import os
import socket
import sys
from typing import Any

import structlog

from base04.errors import HostError
from base04.server.loop_guard import run_guarded
from base04.workers import messages
from base04.workers.channel import Channel
from base04_hookspecs.errors import Base04Error

_log = structlog.get_logger()


def main(descriptor: int) -> None:
    """Serve as the supervisor at the other end of an inherited socket says; exit status 1 where that failed."""
    import uvloop

    with socket.socket(fileno=descriptor) as end:
        sys.exit(run_guarded(_work(end), loop_factory=uvloop.new_event_loop))


async def _work(end: socket.socket) -> int:
    channel = await Channel.over(end)
    try:
        begin = await channel.receive()
        if begin is None:  # the supervisor has died, or was stopped
            return 0
        await _serve(begin, channel)
    except Exception as error:  # noqa: BLE001 - the end of the process; the supervisor and the log have the reason
        if not isinstance(error, Base04Error) or not _foreseen(error):
            _log.error("a worker fails", exc_info=error)
        told = str(error) if isinstance(error, Base04Error) else f"{type(error).__name__}: {error}"
        channel.send(messages.Failed(told))
        return 1
    else:
        return 0
    finally:
        await channel.close()


def _foreseen(error: Base04Error) -> bool:
    return error.__cause__ is None or isinstance(error.__cause__, Base04Error | OSError | ModuleNotFoundError)


async def _serve(begin: messages.Begin, channel: Channel) -> None:
    from base04.http.application import HostApplication
    from base04.logs import configure
    from base04.server.host_server import HostServer
    from base04.server.serving import (
        Stopping,
        reloading_by_signal,
        serve_until_told,
        server_config,
        stopping_by_signals,
    )
    from base04.workers.host import WorkerHost
    from base04.workers.member import Member

    _refuse_another_version(begin)
    sys.path[:] = begin.import_path
    configure(begin.accepted.settings.log, worker=begin.number, pid=os.getpid())

    class Signalled(Stopping):
        """Signals to a worker drain it, however often they come: only the supervisor has it end at once."""

        def signal(self) -> None:
            channel.send(messages.Leaving())
            self.begin()

    stopping = Signalled(asyncio.current_task())

    def orphaned() -> None:
        host.folder.announce()
        stopping.begin()

    async def greet(url: str) -> list[str]:
        from base04.server.greeting import greeting

        return await greeting(host, url)

    member = Member(channel, greet, lambda at_once: stopping.begin(at_once=at_once), orphaned)
    host = WorkerHost(begin, member)
    with host.folder, contextlib.ExitStack() as sockets, stopping_by_signals(stopping):
        clients = [sockets.enter_context(socket.socket(fileno=number)) for number in begin.sockets.clients]
        own = [
            sockets.enter_context(socket.socket(fileno=number))
            for number in (begin.sockets.commands, begin.sockets.own)
        ]
        listener = clients[begin.number - 1] if len(clients) > 1 else clients[0]
        beside = {number: other for number, other in enumerate(clients, 1) if other is not listener}
        async with member.of(host), host, reloading_by_signal(host):
            member.tell(messages.Started())
            await member.admitted.wait()
            served = server_config(HostApplication(host), begin.server)

            async def listening(server: HostServer) -> None:
                await member.serving(server.accept_beside)

            await serve_until_told(host, served, begin.server, [listener], own, stopping, listening, beside)


def _refuse_another_version(begin: messages.Begin) -> None:
    found: Any = importlib.metadata.version("base04")
    if found != begin.version:
        raise HostError(f"Base04 is now {found} on disk, and {begin.version} runs: restart the host.")
