"""What only a whole host has: keys of requests, runs in the background, and a log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from library_host import LibraryHost

ISBN = "9780141439471"
BOOK = {"isbn": ISBN, "title": "Frankenstein", "authors": [{"name": "Mary Shelley"}]}
CARD = {"number": "100001", "pin": "correct-horse"}


@pytest.fixture
def host(tmp_path: Path) -> Iterator[LibraryHost]:
    with LibraryHost(tmp_path / "host") as host:
        yield host


def caller(host: LibraryHost, key: str) -> httpx2.Client:
    return httpx2.Client(base_url=host.url, headers={"X-API-Key": key}, timeout=60)


def run(http: httpx2.Client, action: str, args: dict[str, Any], **headers: str) -> httpx2.Response:
    return http.post(f"/actions/library.{action}", json=args, headers=headers)


def prepared(http: httpx2.Client) -> None:
    assert run(http, "acquire", {"book": BOOK, "copies": 3}).status_code == 200
    joined = run(http, "join", {"reader": {"name": "Ada"}, "mail": "ada@example.org", "cards": [CARD]})
    assert joined.json() == {"cards": [CARD["number"]]}


def test_book_is_lent_once_for_each_key_across_a_restart(host: LibraryHost) -> None:
    key = host.key("desk", "library.*")
    asked, same = {"card": CARD, "isbn": ISBN}, {"Idempotency-Key": '"loan-1"'}
    with caller(host, key) as http:
        prepared(http)
        first = run(http, "borrow", asked, **same)
        assert first.status_code == 200, first.text
    host.stop()
    host.start()
    with caller(host, key) as http:
        again = run(http, "borrow", asked, **same)
        assert (again.json(), again.headers["Idempotent-Replayed"]) == (first.json(), "true")
        assert run(http, "borrow", {**asked, "days": 7}, **same).status_code == 422
        assert run(http, "borrow", asked).json()["copy"] == 2


def test_stock_is_taken_in_the_background(host: LibraryHost) -> None:
    with caller(host, host.key("desk", "library.*")) as http:
        prepared(http)
        run(http, "borrow", {"card": CARD, "isbn": ISBN})
        accepted = run(http, "stocktake", {})
        assert accepted.status_code == 202
        with http.stream("GET", accepted.headers["location"] + "/events") as events:
            told = [line.removeprefix("data: ") for line in events.iter_lines() if line.startswith("data: ")]
        ended = json.loads(told[-1])
        assert (ended["status"], ended["result"]) == (
            "succeeded",
            {"room": "main", "titles": 1, "copies": 3, "out": 1},
        )
        assert ended["progress"] == {"done": 1, "total": 1, "message": "counted"}
        with caller(host, host.key("eve")) as eve:
            assert eve.get(accepted.headers["location"]).status_code in (403, 404)


def test_pins_are_written_nowhere(host: LibraryHost) -> None:
    with caller(host, host.key("desk", "library.*")) as http:
        prepared(http)
        dry = http.post("/actions/library.borrow?dry_run=true", json={"card": CARD, "isbn": ISBN})
        assert dry.json()["arguments"] == {"card": {**CARD, "pin": "***"}, "isbn": ISBN, "days": 14}
        assert run(http, "borrow", {"card": CARD, "isbn": ISBN}).status_code == 200
        accepted = run(http, "borrow", {"card": CARD, "isbn": ISBN}, Prefer="respond-async")
        events = http.get(accepted.headers["location"] + "/events").text
        assert '"status":"succeeded"' in events
    host.stop()
    assert "a book was lent" in host.log.read_text()
    for file in (path for path in host.folder.rglob("*") if path.is_file()):
        assert CARD["pin"].encode() not in file.read_bytes(), file
