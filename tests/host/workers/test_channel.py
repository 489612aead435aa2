from __future__ import annotations

import socket

from base04.workers.channel import Channel
from base04.workers.messages import Converged, Failed, Unchanged


async def test_messages_arrive_in_order_and_the_end_is_noticed() -> None:
    one, other = socket.socketpair()
    here, there = await Channel.over(one), await Channel.over(other)
    sent = [Converged(1), Failed("x" * 200_000), Unchanged(2)]
    for message in sent:
        here.send(message)
    assert [await there.receive() for _ in sent] == sent
    await here.close()
    assert await there.receive() is None
    there.send(Converged(3))  # to nobody
    await there.close()


async def test_end_in_the_middle_of_a_message_is_an_end() -> None:
    one, other = socket.socketpair()
    there = await Channel.over(other)
    with one:
        one.sendall(b"\x00\x00\x01\x00half of it")
    assert await there.receive() is None
    await there.close()
