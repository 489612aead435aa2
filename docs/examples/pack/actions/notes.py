"""The handlers of notes.yaml."""

from __future__ import annotations

import uuid
from typing import Any, Final

from base04_hookspecs import blocking
from base04_hookspecs.action_discovery import ActionContext
from base04_hookspecs.database import Column, DatabaseManager, TableSchema
from base04_hookspecs.redis import key_name

NOTES: Final = TableSchema(
    "notes",
    (Column("id", "string"), Column("text", "text"), Column("tag", "string"), Column("author", "string")),
    primary_key=("id",),
    indexes=(("tag",),),
)


async def add(text: str, tag: str, database: DatabaseManager, context: ActionContext) -> dict[str, str]:
    """Keep a note."""
    note = {"id": uuid.uuid4().hex, "text": text, "tag": tag, "author": context.principal.user_id}
    await database.ensure_table(NOTES)
    await database.execute_transaction([{"type": "insert", "table": "notes", "data": note}])
    context.log.info("a note was kept", tag=tag)
    return {"id": note["id"] or ""}


async def add_many(texts: list[str], context: ActionContext) -> int:
    """Keep several notes, each through the action `notes.add`."""
    for done, text in enumerate(texts, 1):
        await context.run("notes.add", {"text": text})
        context.progress(done, len(texts))
    return len(texts)


async def search(tag: str, limit: int, database: DatabaseManager) -> list[dict[str, Any]]:
    """Find notes, by text."""
    await database.ensure_table(NOTES)
    return await database.find("notes", {"tag": tag}, ["text"], limit)


def visits(redis: blocking.RedisManager) -> int:
    """Count. A plain `def` runs in a worker thread, so it takes the manager's blocking type."""
    return redis.incr(key_name("notes", "visits"))
