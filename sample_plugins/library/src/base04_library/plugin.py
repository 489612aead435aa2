"""What the library adds to the host besides its file of actions: a pack that is defined in Python."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from base04_hookspecs import hookimpl
from base04_hookspecs.database import DatabaseManager
from base04_library.tables import prepare

GENRES: Final = ("novel", "poetry", "science")


async def books_of(genre: str, database: DatabaseManager) -> list[dict[str, Any]]:
    """List the books of a genre, by title."""
    await prepare(database)
    return await database.find("library_books", {"genre": genre}, ["title"], columns=["isbn", "title"])


@hookimpl
def action_packs() -> Iterator[dict[str, Any]]:
    """Define one action for each genre."""
    yield {
        "pack": "library_genres",
        "version": "1.0.0",
        "actions": {
            genre: {
                "summary": f"List the books of the genre {genre}",
                "handler": books_of,
                "access": "public",
                "parameters": {"genre": {"const": genre, "default": genre}},
            }
            for genre in GENRES
        },
    }
