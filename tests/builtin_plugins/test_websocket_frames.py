"""Frames that no library would send, against the provider ``native`` and the server that the host uses.

The cases follow the sections of RFC 6455 that say what a server does with them.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import pytest

from base04.testing.conformance.websocket_client import within
from websocket_kit import Site, eventually, masked, raw_client, read_frame, site

PING = b'{"type": "ping", "id": 1}'
ACK = {"type": "ack", "id": 1, "result": None}
EURO = "\N{EURO SIGN}".encode()


def closing(code: int, reason: bytes = b"") -> bytes:
    return masked(8, struct.pack("!H", code) + reason)


VIOLATIONS: dict[str, tuple[bytes, int]] = {
    "5.1 not masked": (bytes([0x81, 0x02]) + b"{}", 1002),
    "5.2 first reserved bit": (masked(1, PING, reserved=0x40), 1002),
    "5.2 second reserved bit": (masked(1, PING, reserved=0x20), 1002),
    "5.2 reserved bit of a ping": (masked(9, b"", reserved=0x10), 1002),
    **{f"5.2 opcode {opcode}": (masked(opcode, b"{}"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "5.2 length above 63 bits": (struct.pack("!BBQ4x", 0x81, 0xFF, 1 << 63), 1009),
    "5.2 length of an exabyte": (struct.pack("!BBQ4x", 0x81, 0xFF, 1 << 60), 1009),
    "5.4 nothing to continue": (masked(0, b"{}"), 1002),
    "5.4 nothing to continue, not final": (masked(0, b"{}", final=False), 1002),
    "5.4 a message inside a message": (masked(1, b"{", final=False) + masked(1, b"}"), 1002),
    "5.5 ping of 126 bytes": (masked(9, b"x" * 126), 1002),
    "5.5 ping in fragments": (masked(9, b"x", final=False) + masked(0, b"x"), 1002),
    "5.5.1 close of one byte": (masked(8, b"x"), 1002),
    **{f"7.4 code {code}": (closing(code), 1002) for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2000, 2999, 5000)},
    "5.5.1 reason that is no UTF-8": (closing(1000, b"\xff"), 1007),
    "8.1 no UTF-8": (masked(1, b"\xff\xfe\x00"), 1007),
    "8.1 half a character": (masked(1, EURO[:2]), 1007),
    "8.1 surrogate": (masked(1, b"\xed\xa0\x80"), 1007),
    "8.1 above the last character": (masked(1, b"\xf4\x90\x80\x80"), 1007),
    "8.1 overlong": (masked(1, b"\xc0\xaf"), 1007),
    "8.1 no UTF-8 across fragments": (masked(1, EURO[:1], final=False) + masked(0, b"}"), 1007),
}


@pytest.mark.parametrize("name", VIOLATIONS)
async def test_violation_fails_its_connection_alone(name: str) -> None:
    sent, code = VIOLATIONS[name]
    async with site() as place:
        other = await place.connect("bob")
        reader, writer = await raw_client(place, place.jwt.issue("ada"))
        assert (await read_frame(reader))[0] == 1
        writer.write(sent)
        opcode, payload = await read_frame(reader)
        assert (opcode, struct.unpack("!H", payload[:2])[0]) == (8, code)
        writer.write(closing(1000))
        assert await within(reader.read()) == b""
        writer.close()
        await eventually(lambda: only(place, "bob"))
        await other.join("news")


async def only(place: Site, user_id: str) -> bool:
    return [info["user_id"] for info in await place.manager.list_sessions()] == [user_id]


PROPER: dict[str, tuple[bytes, list[tuple[int, Any]]]] = {
    "one frame": (masked(1, PING), [(1, ACK)]),
    "a fragment for each byte": (
        masked(1, PING[:1], final=False)
        + b"".join(masked(0, PING[n : n + 1], final=False) for n in range(1, len(PING)))
        + masked(0, b""),
        [(1, ACK)],
    ),
    "a character in two fragments": (
        masked(1, b'{"type": "ping", "id": "' + EURO[:1], final=False) + masked(0, EURO[1:] + b'"}'),
        [(1, {**ACK, "id": EURO.decode()})],
    ),
    "a ping between fragments": (
        masked(1, PING[:5], final=False) + masked(9, b"are you there") + masked(0, PING[5:]),
        [(10, b"are you there"), (1, ACK)],
    ),
    "a ping without payload": (masked(9, b""), [(10, b"")]),
    "a ping of 125 bytes": (masked(9, b"x" * 125), [(10, b"x" * 125)]),
    "a pong that nobody asked for": (masked(10, b"x") + masked(1, PING), [(1, ACK)]),
    "a long frame": (masked(1, PING + b" " * 60_000), [(1, ACK)]),
    "a close with a reason": (closing(1000, b"bye"), [(8, struct.pack("!H", 1000))]),
    "a close of the application": (closing(4999), [(8, struct.pack("!H", 4999))]),
    "a close without a code": (masked(8, b""), [(8, b"")]),
}


@pytest.mark.parametrize("name", PROPER)
async def test_what_is_allowed_is_answered(name: str) -> None:
    sent, answers = PROPER[name]
    async with site() as place:
        reader, writer = await raw_client(place, place.jwt.issue("ada"))
        assert (await read_frame(reader))[0] == 1
        writer.write(sent)
        for opcode, expected in answers:
            found, payload = await read_frame(reader)
            assert found == opcode
            if opcode == 1:
                assert json.loads(payload) == expected
            else:
                assert payload[: len(expected)] == expected
        writer.close()
        await eventually(lambda: nobody(place))


async def nobody(place: Site) -> bool:
    return (await place.manager.health_check())["metrics"]["connections"] == 0


@pytest.mark.parametrize("cut", [1, 2, 5, 12])
async def test_frame_that_is_cut_off_leaves_nothing(cut: int) -> None:
    async with site() as place:
        reader, writer = await raw_client(place, place.jwt.issue("ada"))
        assert (await read_frame(reader))[0] == 1
        writer.write(masked(1, PING)[:cut])
        writer.write_eof()
        await within(reader.read())
        writer.close()
        await eventually(lambda: nobody(place))
