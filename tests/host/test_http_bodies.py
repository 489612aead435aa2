from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from base04.http.bodies import read_json
from base04_hookspecs.errors import InvalidInput

JSON = (b"content-type", b"application/json")


async def read(*chunks: bytes | None, headers: Iterable[tuple[bytes, bytes]] = (JSON,), limit: int = 20) -> Any:
    """Read a body that comes in chunks; None stands for a client that goes away."""
    messages: list[dict[str, Any]] = [
        {"type": "http.disconnect"}
        if chunk is None
        else {"type": "http.request", "body": chunk, "more_body": number < len(chunks)}
        for number, chunk in enumerate(chunks, 1)
    ]

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    return await read_json({"type": "http", "headers": list(headers)}, receive, limit)


async def test_body_is_read_whole_or_in_chunks() -> None:
    assert await read(b'{"a": 1}') == {"a": 1}
    assert await read(b'{"a"', b"", b": 1}") == {"a": 1}
    assert await read(b"[" + b"1" * 18 + b"]") == [int("1" * 18)]


async def test_empty_body_is_none_whatever_its_type() -> None:
    assert await read(b"") is None
    assert await read(b"", b"", headers=[(b"content-type", b"text/plain")]) is None
    assert await read(b"", headers=[]) is None


@pytest.mark.parametrize("chunks", [[b"1" * 21], [b"1" * 10, b"1" * 11], [b"1" * 20, b"1", b"1" * 50]])
async def test_too_large_body_is_refused_as_soon_as_it_is_known(chunks: list[bytes]) -> None:
    with pytest.raises(HTTPException) as refused:
        await read(*chunks)
    assert refused.value.status_code == 413


async def test_declared_length_is_believed_only_to_refuse() -> None:
    with pytest.raises(HTTPException) as refused:
        await read(None, headers=[JSON, (b"content-length", b"21")])
    assert refused.value.status_code == 413
    assert await read(b"{}", headers=[JSON, (b"content-length", b"20")]) == {}
    with pytest.raises(HTTPException) as lied:
        await read(b"1" * 21, headers=[JSON, (b"content-length", b"2")])
    assert lied.value.status_code == 413
    for odd in (b"\xb2", b"-5", b"many"):
        assert await read(b"{}", headers=[JSON, (b"content-length", odd)]) == {}


@pytest.mark.parametrize("chunks", [[None], [b'{"a"', None]])
async def test_client_that_goes_away_is_no_malformed_body(chunks: list[bytes | None]) -> None:
    with pytest.raises(ClientDisconnect):
        await read(*chunks)


async def test_body_without_a_type_or_of_another_is_refused() -> None:
    for headers in ([], [(b"content-type", b"text/plain")], [(b"content-type", b"application/json5")]):
        with pytest.raises(HTTPException) as refused:
            await read(b"{}", headers=headers)
        assert refused.value.status_code == 415


async def test_malformed_body_says_where() -> None:
    with pytest.raises(HTTPException) as refused:
        await read(b'{\n "a": }')
    assert refused.value.status_code == 400
    assert "line 2, column 7" in refused.value.detail


async def test_null_is_not_taken_for_an_empty_body() -> None:
    with pytest.raises(InvalidInput, match="or nothing at all"):
        await read(b"null")
