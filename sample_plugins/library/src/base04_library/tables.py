"""What the library keeps in the database.

A row of ``LOANS`` is there for as long as the copy is out. Its primary key is the copy, so that no two processes can
lend the same one.
"""

from __future__ import annotations

from typing import Final

from base04_hookspecs.database import Column, DatabaseManager, TableSchema

BOOKS: Final = TableSchema(
    "library_books",
    (
        Column("isbn", "string", nullable=False),
        Column("title", "string", nullable=False),
        Column("authors", "json"),
        Column("genre", "string"),
        Column("place", "json"),
        Column("room", "string"),
        Column("copies", "integer"),
    ),
    primary_key=("isbn",),
    indexes=(("title",), ("genre",), ("room",)),
)

CARDS: Final = TableSchema(
    "library_cards",
    (
        Column("number", "string", nullable=False),
        Column("reader", "json"),
        Column("mail", "string"),
        Column("salt", "bytes"),
        Column("pin_hash", "bytes"),
    ),
    primary_key=("number",),
)

LOANS: Final = TableSchema(
    "library_loans",
    (
        Column("isbn", "string", nullable=False),
        Column("copy", "integer", nullable=False),
        Column("loan", "string"),
        Column("card", "string"),
        Column("due", "string"),
    ),
    primary_key=("isbn", "copy"),
    indexes=(("loan",),),
)

TABLES: Final = (BOOKS, CARDS, LOANS)


async def prepare(database: DatabaseManager) -> DatabaseManager:
    """Make the tables where they are missing, and return the database."""
    for table in TABLES:
        await database.ensure_table(table)
    return database
