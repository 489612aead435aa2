"""The actions as callers run them, through the whole pipeline and without a server."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from base04_library import handlers, pins, tables
from base04_library.plugin import GENRES

from base04.testing.actions import ActionRunner
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import (
    ActionBusy,
    AuthenticationError,
    Conflict,
    InvalidInput,
    ManagerUnavailable,
    NotFound,
    PermissionDenied,
    RateLimited,
)

ISBN, OTHER = "9780141439471", "9780140424386"
FRANKENSTEIN: dict[str, Any] = {"isbn": ISBN, "title": "Frankenstein", "authors": [{"name": "Mary Shelley"}]}
CARD = {"number": "100001", "pin": "correct-horse"}


@pytest.fixture
def library(actions: ActionRunner) -> ActionRunner:
    """Return a library with one copy of one book, and one reader."""
    actions.run("library.acquire", book=FRANKENSTEIN)
    actions.run("library.join", reader={"name": "Ada"}, mail="ada@example.org", cards=[CARD])
    return actions


def test_defaults_are_filled_in_at_depth(actions: ActionRunner) -> None:
    asked = copy.deepcopy(FRANKENSTEIN)
    kept = actions.run("library.acquire", book=asked)
    assert kept == {"isbn": ISBN, "copies": 1, "place": {"room": "main", "shelf": "A"}}
    assert asked == FRANKENSTEIN
    moved = actions.run("library.acquire", book={**FRANKENSTEIN, "place": {"shelf": "S"}})
    assert moved["place"] == {"room": "main", "shelf": "S"}
    (found,) = actions.run_as_stranger("library.find", title="Frank")
    assert found == {**FRANKENSTEIN, "genre": "novel", "place": moved["place"]}


def test_every_fault_is_told_with_its_place(actions: ActionRunner) -> None:
    person = {"name": "", "born": "30 August 1797"}
    book = {**FRANKENSTEIN, "authors": [person], "genre": "gothic", "place": {"shelf": "7"}}
    with pytest.raises(InvalidInput) as caught:
        actions.run("library.acquire", book=book, copies=0)
    assert {fault.pointer for fault in caught.value.faults} == {
        "/book/authors/0/name",
        "/book/authors/0/born",
        "/book/genre",
        "/book/place/shelf",
        "/copies",
    }


def test_secrets_in_lists_are_in_no_message(actions: ActionRunner) -> None:
    with pytest.raises(InvalidInput) as caught:
        actions.run("library.join", reader={"name": "Ada"}, mail="ada", cards=[{"number": "1", "pin": "x7K"}])
    assert {fault.pointer for fault in caught.value.faults} == {"/mail", "/cards/0/number", "/cards/0/pin"}
    assert "x7K" not in str(caught.value) + "".join(fault.message for fault in caught.value.faults)


def test_pins_are_kept_as_hashes(library: ActionRunner) -> None:
    (row,) = library.host.get_db_manager().find("library_cards")
    assert CARD["pin"] not in str(row)
    assert pins.is_right(CARD["pin"], row["salt"], row["pin_hash"])
    assert not pins.is_right("another", row["salt"], row["pin_hash"])


def test_cards_are_issued_together_or_not_at_all(library: ActionRunner) -> None:
    cards = [{"number": "100002", "pin": "1234"}, {"number": CARD["number"], "pin": "1234"}]
    with pytest.raises(Conflict, match="none was issued"):
        library.run("library.join", reader={"name": "Bob"}, mail="bob@example.org", cards=cards)
    assert library.host.get_db_manager().count("library_cards") == 1


def test_copy_is_out_until_it_is_given_back(library: ActionRunner) -> None:
    loan = library.run("library.borrow", card=CARD, isbn=ISBN)
    assert (loan["isbn"], loan["copy"]) == (ISBN, 1)
    with pytest.raises(Conflict, match="out"):
        library.run("library.borrow", card=CARD, isbn=ISBN)
    assert library.run_as("bob", [], "library.give_back", loan=loan["loan"]) == {"returned": True}
    assert library.run("library.give_back", loan=loan["loan"]) == {"returned": False}
    assert library.run("library.borrow", card=CARD, isbn=ISBN)["copy"] == 1


def test_last_copy_goes_to_one_of_many(library: ActionRunner) -> None:
    def borrow(_: int) -> bool:
        try:
            library.run("library.borrow", card=CARD, isbn=ISBN)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sum(pool.map(borrow, range(4))) == 1


def test_wrong_pin_lends_nothing(library: ActionRunner) -> None:
    for card in ({**CARD, "pin": "another"}, {**CARD, "number": "999999"}):
        with pytest.raises(PermissionDenied, match="PIN"):
            library.run("library.borrow", card=card, isbn=ISBN)
    with pytest.raises(NotFound, match=OTHER):
        library.run("library.borrow", card=CARD, isbn=OTHER)


def test_several_books_are_lent_or_none(library: ActionRunner) -> None:
    with pytest.raises(NotFound, match=OTHER):
        library.run("library.borrow_many", card=CARD, isbns=[ISBN, OTHER])
    assert library.host.get_db_manager().count("library_loans") == 0
    library.run("library.acquire", book={**FRANKENSTEIN, "isbn": OTHER})
    loans = library.run("library.borrow_many", card=CARD, isbns=[ISBN, OTHER])
    assert [loan["isbn"] for loan in loans] == [ISBN, OTHER]


def test_nested_run_has_no_more_permissions_than_its_caller(library: ActionRunner) -> None:
    for action, permission in (("acquire", "library.manage"), ("borrow_many", "library.lend")):
        with pytest.raises(PermissionDenied) as caught:
            library.run_as("eve", ["library.read"], f"library.{action}")
        assert caught.value.missing == (permission,)
    with pytest.raises(AuthenticationError):
        library.run_as_stranger("library.give_back", loan="x")


def test_database_that_was_away_is_tried_again(actions: ActionRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    async def prepare(database: DatabaseManager) -> DatabaseManager:
        tried.append("acquire")
        if len(tried) < 3:
            raise ManagerUnavailable("the database is away")
        return await tables.prepare(database)

    monkeypatch.setattr(handlers, "prepare", prepare)
    assert actions.run("library.acquire", book=FRANKENSTEIN)["copies"] == 1
    assert len(tried) == 3


def test_one_room_is_counted_once_at_a_time(library: ActionRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go = threading.Event(), threading.Event()

    class Slow(list[Any]):
        def __iter__(self) -> Any:
            begun.set()
            assert go.wait(60)
            return super().__iter__()

    with ThreadPoolExecutor(1) as pool:
        with monkeypatch.context() as patch:
            patch.setattr(handlers, "TABLES", Slow(tables.TABLES))
            first = pool.submit(library.run, "library.stocktake")
            assert begun.wait(60)
        try:
            with pytest.raises(ActionBusy):
                library.run("library.stocktake")
            assert library.run("library.stocktake", room="attic")["titles"] == 0
        finally:
            go.set()
        assert first.result() == {"room": "main", "titles": 1, "copies": 1, "out": 0}


def test_strangers_search_at_a_bounded_rate(actions: ActionRunner) -> None:
    with pytest.raises(RateLimited) as caught:
        find_without_end(actions)
    assert caught.value.exceeded == ("action",)


def find_without_end(actions: ActionRunner) -> None:
    for _ in range(1000):
        actions.run_as_stranger("library.find")


def test_pack_says_what_it_is(actions: ActionRunner) -> None:
    pack = actions.host.action_discovery_manager.list_packs()["library"]
    assert (pack["version"], pack["authors"], pack["requires"]) == (
        "1.0.0",
        ["Ada Lovelace <ada@example.org>"],
        "base04>=0.1",
    )
    introduced = set(pack["permissions"])
    needed = {permission for name in pack["actions"] for permission in actions.info(name)["permissions"]}
    assert introduced == needed == {"library.manage", "library.lend"}


def test_examples_do_what_they_say(actions: ActionRunner) -> None:
    (example,) = actions.info("library.acquire")["examples"]
    assert actions.run("library.acquire", example["arguments"]) == example["result"]


def test_genres_of_the_plugin_are_those_of_the_file(library: ActionRunner) -> None:
    with pytest.raises(InvalidInput) as caught:
        library.run("library.acquire", book={**FRANKENSTEIN, "genre": "gothic"})
    assert all(genre in caught.value.faults[0].message for genre in GENRES)
    assert library.run("library_genres.novel") == [{"isbn": ISBN, "title": "Frankenstein"}]
    assert library.run("library_genres.poetry") == []
