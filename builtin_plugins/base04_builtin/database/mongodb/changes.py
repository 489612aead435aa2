"""Carrying out one operation, and taking it back where the server has no transactions."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import DuplicateKeyError, PyMongoError

from base04_builtin.database.mongodb.documents import Change, Document
from base04_hookspecs.errors import Conflict, InvalidInput

Collection = AsyncCollection[Document]

_RACES: Final = 5


class Undo:
    """How to take back what was done, in reverse order.

    Each step holds only where the document is still as it was left: what somebody else changed since is not touched.
    """

    def __init__(self) -> None:
        self._steps: list[Callable[[], Awaitable[bool]]] = []

    def __len__(self) -> int:
        return len(self._steps)

    async def run(self) -> bool:
        """Take back everything, and tell whether all of it could be."""
        complete = True
        while self._steps:
            try:
                complete = await self._steps.pop()() and complete
            except PyMongoError:
                complete = False
        return complete

    def inserted(self, collection: Collection, document: Document) -> None:
        """Remember a document that was inserted."""

        async def step() -> bool:
            return (await collection.delete_one(_as_it_is(document))).deleted_count == 1

        self._steps.append(step)

    def updated(self, collection: Collection, before: Document, update: dict[str, Document]) -> None:
        """Remember what a document was before it was updated."""
        names = [*update.get("$set", {}), *update.get("$unset", {})]
        left = {"_id": before["_id"], **_as_it_is(update.get("$set", {}))}
        left |= {name: {"$exists": False} for name in update.get("$unset", {})}
        restored = {name: before[name] for name in names if name in before}
        gone = {name: "" for name in names if name not in before}
        back = ({"$set": restored} if restored else {}) | ({"$unset": gone} if gone else {})

        async def step() -> bool:
            return (await collection.update_one(left, back)).matched_count == 1

        self._steps.append(step)

    def deleted(self, collection: Collection, document: Document) -> None:
        """Remember a document that was deleted."""

        async def step() -> bool:
            await collection.insert_one(document)
            return True

        self._steps.append(step)


class Changes:
    """Carries out operations: in a transaction where there is a session, else noting down how to undo them."""

    def __init__(
        self,
        database: AsyncDatabase[Document],
        *,
        session: AsyncClientSession | None = None,
        undo: Undo | None = None,
    ) -> None:
        self._database, self._session, self._undo = database, session, undo

    async def carry_out(self, change: Change) -> None:
        """Carry out one operation.

        Raises:
            Conflict: it touched another number of documents than it should.
            InvalidInput: it would insert a document that lacks something.
            PyMongoError: what the driver raises.
        """
        touched = await self._touched(self._database[change.table], change)
        if change.expect is not None and touched != change.expect:
            raise Conflict(
                f"The operation {change.place} should have touched {change.expect} rows, and it touched {touched}."
            )

    async def _touched(self, collection: Collection, change: Change) -> int:
        if change.kind == "insert":
            return await self._insert(collection, change.document)
        if change.kind == "upsert":
            return await self._upsert(collection, change)
        if self._undo is not None:
            return await self._one_by_one(collection, change)
        if change.kind == "delete":
            done = collection.delete_one if change.single else collection.delete_many
            return (await done(change.filter, session=self._session)).deleted_count
        update = collection.update_one if change.single else collection.update_many
        return (await update(change.filter, change.update, session=self._session)).matched_count

    async def _insert(self, collection: Collection, document: Document) -> int:
        inserted = dict(document)
        await collection.insert_one(inserted, session=self._session)  # adds its _id
        if self._undo is not None:
            self._undo.inserted(collection, inserted)
        return 1

    async def _upsert(self, collection: Collection, change: Change) -> int:
        for attempt in range(_RACES):
            if await self._update_there(collection, change):
                return 1 if change.update else 0
            if change.lacks:
                raise InvalidInput(f"The operation {change.place} lacks values for {', '.join(change.lacks)}.")
            try:
                return await self._insert(collection, change.document)
            except DuplicateKeyError:  # somebody inserted it meanwhile, or another key of it is taken
                if self._session is not None or attempt == _RACES - 1:
                    raise
        return 0

    async def _update_there(self, collection: Collection, change: Change) -> bool:
        if not change.update:
            return await collection.find_one(change.filter, {"_id": 1}, session=self._session) is not None
        if self._undo is not None:
            return await self._one_by_one(collection, change) > 0
        done = await collection.update_one(change.filter, change.update, session=self._session)
        return done.matched_count > 0

    async def _one_by_one(self, collection: Collection, change: Change) -> int:
        """Change matching documents one after the other, each in one step that tells what it was before."""
        limit = 1 if change.single else 0
        async with collection.find(change.filter, {"_id": 1}, limit=limit) as cursor:
            keys = [document["_id"] for document in await cursor.to_list()]
        touched = 0
        for key in keys:
            this = {"$and": [{"_id": key}, change.filter]} if change.filter else {"_id": key}
            if change.kind == "delete":
                before = await collection.find_one_and_delete(this)
                if before is not None and self._undo is not None:
                    self._undo.deleted(collection, before)
            else:
                before = await collection.find_one_and_update(this, change.update)
                if before is not None and self._undo is not None:
                    self._undo.updated(collection, before, change.update)
            touched += before is not None
        return touched


def _as_it_is(document: Document) -> Document:
    return {name: value if name == "_id" else {"$eq": value} for name, value in document.items()}
