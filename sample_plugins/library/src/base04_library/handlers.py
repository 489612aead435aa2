"""What the actions of the pack do."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

from base04_hookspecs import blocking
from base04_hookspecs.action_discovery import ActionContext
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import Conflict, NotFound, PermissionDenied
from base04_library import pins
from base04_library.tables import TABLES, prepare


async def acquire(book: dict[str, Any], copies: int, database: DatabaseManager) -> dict[str, Any]:
    """Put a book on its shelf. Doing so twice changes nothing, so the action is idempotent and may be retried."""
    await prepare(database)
    data = {**book, "room": book["place"]["room"], "copies": copies}
    isbn = data.pop("isbn")
    await database.execute_transaction(
        [{"type": "upsert", "table": "library_books", "where": {"isbn": isbn}, "data": data}]
    )
    return {"isbn": isbn, "copies": copies, "place": book["place"]}


async def find(title: str, limit: int, database: DatabaseManager) -> list[dict[str, Any]]:
    """Find books, by title."""
    await prepare(database)
    where = {"title": {"prefix": title}} if title else None
    return await database.find(
        "library_books", where, ["title"], limit, columns=["isbn", "title", "authors", "genre", "place"]
    )


def join(
    reader: dict[str, Any], mail: str, cards: list[dict[str, str]], database: blocking.DatabaseManager
) -> dict[str, list[str]]:
    """Issue cards. Hashing takes a while, so this is a plain ``def``: it runs in a thread, and may block."""
    for table in TABLES:
        database.ensure_table(table)
    rows = []
    for card in cards:
        salt, pin_hash = pins.hashed(card["pin"])
        rows.append({"number": card["number"], "reader": reader, "mail": mail, "salt": salt, "pin_hash": pin_hash})
    try:
        database.execute_transaction([{"type": "insert", "table": "library_cards", "data": row} for row in rows])
    except Conflict:
        raise Conflict("One of these cards is issued already; none was issued.") from None
    return {"cards": [card["number"] for card in cards]}


async def borrow(
    card: dict[str, str], isbn: str, days: int, database: DatabaseManager, context: ActionContext
) -> dict[str, Any]:
    """Lend the first copy that is in."""
    await prepare(database)
    await _check_card(card, database)
    books = await database.find("library_books", {"isbn": isbn}, columns=["copies"])
    if not books:
        raise NotFound(f"The library has no book {isbn}.")
    out = {row["copy"] for row in await database.find("library_loans", {"isbn": isbn}, columns=["copy"])}
    copy = next((number for number in range(1, books[0]["copies"] + 1) if number not in out), None)
    if copy is None:
        raise Conflict(f"All copies of {isbn} are out.")
    due = (datetime.now(UTC) + timedelta(days=days)).date().isoformat()
    loan = {"loan": uuid.uuid4().hex, "isbn": isbn, "copy": copy, "due": due}
    row = {**loan, "card": card["number"]}
    try:
        await database.execute_transaction([{"type": "insert", "table": "library_loans", "data": row}])
    except Conflict:  # the concurrency limit holds within a process, the primary key between them
        raise Conflict(f"Somebody has just taken that copy of {isbn}: try again.") from None
    context.log.info("a book was lent", isbn=isbn, copy=copy, card=card)  # the log says pin=***
    return loan


async def _check_card(card: dict[str, str], database: DatabaseManager) -> None:
    found = await database.find("library_cards", {"number": card["number"]})
    if not found or not await asyncio.to_thread(pins.is_right, card["pin"], found[0]["salt"], found[0]["pin_hash"]):
        raise PermissionDenied("There is no such card, or its PIN is another.")


async def borrow_many(card: dict[str, str], isbns: list[str], context: ActionContext) -> list[dict[str, Any]]:
    """Lend several books, each through ``library.borrow``; what was lent is taken back if one cannot be."""
    loans: list[dict[str, Any]] = []
    try:
        for isbn in isbns:
            loans.append(await context.run("library.borrow", {"card": card, "isbn": isbn}))
            context.progress(len(loans), len(isbns), isbn)
    except (Exception, asyncio.CancelledError):
        for loan in loans:
            await context.run("library.give_back", {"loan": loan["loan"]})
        raise
    return loans


async def give_back(loan: str, database: DatabaseManager) -> dict[str, bool]:
    """Take a book back, and tell whether it was out."""
    await prepare(database)
    out = await database.count("library_loans", {"loan": loan})
    await database.execute_transaction([{"type": "delete", "table": "library_loans", "where": {"loan": loan}}])
    return {"returned": out > 0}


def stocktake(room: str, database: blocking.DatabaseManager, context: ActionContext) -> dict[str, Any]:
    """Count book by book; a thread may say how far it is, too."""
    for table in TABLES:
        database.ensure_table(table)
    books = database.find("library_books", {"room": room}, ["isbn"], columns=["isbn", "title", "copies"])
    out = 0
    for done, book in enumerate(books):
        context.progress(done, len(books), book["title"])
        out += database.count("library_loans", {"isbn": book["isbn"]})
    context.progress(len(books), len(books), "counted")
    return {"room": room, "titles": len(books), "copies": sum(book["copies"] for book in books), "out": out}
