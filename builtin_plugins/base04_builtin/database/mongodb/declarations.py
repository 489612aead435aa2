"""Declared tables: their stored schemas and their indexes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

from pymongo import ASCENDING
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from base04_builtin.database.schema import dumped, loaded, merged
from base04_hookspecs.database import TableSchema

TABLES: Final = "_base04_tables"
_NOT_IMPLEMENTED: Final = 238


async def declare(database: AsyncDatabase[dict[str, Any]], table: TableSchema) -> TableSchema:
    """Store what a table has with a declaration added to it, make its indexes, and return its whole schema."""
    stored = await database[TABLES].find_one({"_id": table.name})
    schema = merged(loaded(stored["definition"]) if stored else None, table)
    await _make_indexes(database[table.name], schema)
    definition = {"definition": dumped(schema)}
    if stored is None:
        await database[TABLES].insert_one({"_id": schema.name, **definition})
    elif stored["definition"] != definition["definition"]:
        await database[TABLES].update_one({"_id": schema.name}, {"$set": definition})
    return schema


async def _make_indexes(collection: AsyncCollection[dict[str, Any]], schema: TableSchema) -> None:
    nullable = {column.name for column in schema.columns if column.nullable}
    for key in (schema.primary_key, *schema.unique):
        await _make_unique(collection, key, {name: {"$exists": True} for name in key if name in nullable})
    for key in schema.indexes:
        await collection.create_index([(name, ASCENDING) for name in key], name=_index_name("index", key))


async def _make_unique(collection: AsyncCollection[dict[str, Any]], key: Sequence[str], partial: Any) -> None:
    """Make an index that holds for documents with a value in every column of the key, as SQL has it."""
    keys = [(name, ASCENDING) for name in key]
    name = _index_name("unique", key)
    if not partial:
        await collection.create_index(keys, name=name, unique=True)
        return
    try:
        await collection.create_index(keys, name=name, unique=True, partialFilterExpression=partial)
    except OperationFailure as error:
        if error.code != _NOT_IMPLEMENTED:
            raise
        await collection.create_index(keys, name=name, unique=True, sparse=True)  # FerretDB, where it means the same


def _index_name(kind: str, key: Sequence[str]) -> str:
    """Return a name that is the same each time, and short enough for every server."""
    name = f"base04_{kind}_{'_'.join(key)}"
    return name if len(name) <= 100 else f"{name[:80]}_{hashlib.sha256(name.encode()).hexdigest()[:16]}"
