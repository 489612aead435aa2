"""Several operations, all or none: as the server at hand allows."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from typing import Any, Final

import structlog
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import PyMongoError
from pymongo.read_concern import ReadConcern
from pymongo.write_concern import WriteConcern

from base04_builtin.database.mongodb.changes import Changes, Undo
from base04_builtin.database.mongodb.documents import Change
from base04_builtin.database.mongodb.errors import DRIVER_ERRORS, clear_errors, translated
from base04_hookspecs.errors import Base04Error, NotSupported, OutcomeUnknown

_TRANSIENT: Final = "TransientTransactionError"
_COMMIT_UNKNOWN: Final = "UnknownTransactionCommitResult"
_PAUSE_S: Final = 0.01
_UNDO_S: Final = 10.0

log = structlog.get_logger()


def needs_transaction(changes: Sequence[Change]) -> bool:
    """Tell whether more than one document may have to change, or a change may have to be taken back."""
    if len(changes) > 1:
        return True
    (change,) = changes
    return not change.single or change.expect not in (None, 1)


def not_supported() -> NotSupported:
    """Return the error for what a server without transactions cannot do."""
    return NotSupported(
        "Several documents would have to change together, and this MongoDB stands alone, which has no transactions. "
        "Make it a replica set (one member is enough), or accept with 'single_document_atomicity: true' that the "
        "operations are made one after the other and taken back where one fails."
    )


async def at_once(database: AsyncDatabase[dict[str, Any]], change: Change) -> None:
    """Carry out one change of one document, which every server makes whole or not at all."""
    with clear_errors(writes=True):
        await Changes(database).carry_out(change)


async def in_session(
    database: AsyncDatabase[dict[str, Any]], changes: Sequence[Change], committing: asyncio.Event, limit_s: float
) -> None:
    """Carry out all changes in a transaction, again for ``limit_s`` seconds while others are in the way.

    A commit whose reply was lost is repeated as long, which the server bears. Before ``committing`` is set, nothing has
    been done.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limit_s
    tried = 0
    while True:
        async with database.client.start_session() as session:
            await session.start_transaction(ReadConcern("snapshot"), WriteConcern("majority", j=True))
            try:
                for change in changes:
                    await Changes(database, session=session).carry_out(change)
                committing.set()
                await _commit(session, deadline)
            except DRIVER_ERRORS as error:
                again = isinstance(error, PyMongoError) and error.has_error_label(_TRANSIENT)
                if not again or loop.time() > deadline:
                    raise translated(error, writes=False) from error
            else:
                return
        committing.clear()
        tried = min(tried + 1, 50)
        await asyncio.sleep(_PAUSE_S * tried * random.random())  # noqa: S311 - jitter, not a secret


async def _commit(session: Any, deadline: float) -> None:
    began = False
    while True:
        try:
            await session.commit_transaction()
        except PyMongoError as error:
            if not error.has_error_label(_COMMIT_UNKNOWN):
                if began and not error.has_error_label(_TRANSIENT):
                    raise OutcomeUnknown("The connection to the database broke during the commit.") from error
                raise
            if asyncio.get_running_loop().time() > deadline:
                raise OutcomeUnknown("The connection to the database broke during the commit.") from error
            began = True
            await asyncio.sleep(_PAUSE_S)
        else:
            return


async def in_order(database: AsyncDatabase[dict[str, Any]], changes: Sequence[Change]) -> None:
    """Carry out changes one after the other, and take them back where one fails.

    Others see what is in between. If this process dies in between, what was done stays done.

    Raises:
        OutcomeUnknown: something could not be taken back.
    """
    undo = Undo()
    try:
        for change in changes:
            with clear_errors(writes=True):
                await Changes(database, undo=undo).carry_out(change)
    except Exception as error:
        if not len(undo):
            raise
        if await _taken_back(undo):
            raise
        log.warning("operations not taken back", operations=len(changes), error=type(error).__name__)
        if not isinstance(error, Base04Error):
            raise
        raise OutcomeUnknown(
            f"An operation failed, and those before it could not all be taken back: {error}"
        ) from error


async def _taken_back(undo: Undo) -> bool:
    try:
        async with asyncio.timeout(_UNDO_S):
            return await undo.run()
    except TimeoutError:
        return False
