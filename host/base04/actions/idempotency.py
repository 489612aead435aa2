"""Answering a request once, however often it comes: what ``Idempotency-Key`` asks for.

A row is written before the action runs, with a lease of the process that runs it. A request with the same key that
comes meanwhile is told so; one that comes later gets the answer that was kept. If the process dies, the lease passes:
the next request runs the action again where that is declared to do no harm, and is told otherwise that nobody knows
what became of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
import structlog

from base04.actions.limits import network_of
from base04.records.retention import AT_ONCE, carry_out_apart, delete_oldest
from base04_hookspecs.context import RequestContext
from base04_hookspecs.database import Column, DatabaseManager, Operation, TableSchema
from base04_hookspecs.errors import (
    Base04Error,
    Conflict,
    Fault,
    InvalidInput,
    ManagerUnavailable,
    OutcomeUnknown,
)

TABLE: Final = TableSchema(
    name="base04_idempotency",
    columns=(
        Column("id", "string", nullable=False),
        Column("fingerprint", "string", nullable=False),
        Column("status", "string", nullable=False),
        Column("owner", "string", nullable=False),
        Column("lease_until", "timestamp", nullable=False),
        Column("expires_at", "timestamp", nullable=False),
        Column("answer_status", "integer"),
        Column("answer_headers", "json"),
        Column("answer", "bytes"),
    ),
    primary_key=("id",),
    indexes=(("expires_at",), ("owner",)),
)
"""``id`` is a hash of who asks, the action and the key; ``status`` is ``running`` or ``done``."""

_TRIES: Final = 5
_SWEEP_S: Final = 3600.0

_log = structlog.get_logger()


async def _create_table(database: DatabaseManager) -> None:
    """The first migration."""
    await database.ensure_table(TABLE)


_MIGRATIONS: Final = (_create_table,)


class KeyInUse(Conflict):
    """A request with this key is still being processed."""


class KeyReused(InvalidInput):
    """The key was used for a request with another body."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request was answered; ``keep`` is false where nothing was begun, so that it may be tried again."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    keep: bool = True
    replayed: bool = False


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What tells requests apart: the caller, the action and the key; and what their bodies must have in common."""

    id: str
    fingerprint: str

    @classmethod
    def of(cls, context: RequestContext, key: str, args: Mapping[str, Any] | None) -> RequestKey:
        """Return the key of a request to run an action."""
        principal = context.principal
        who = ("user", principal.user_id) if principal.user_id else ("key", principal.api_key_id)
        if who[1] is None:  # strangers are told apart by their address
            who = ("address", network_of(context.client_ip))
        identity = orjson.dumps([*who, context.action, key])
        body = orjson.dumps(args or {}, option=orjson.OPT_SORT_KEYS)
        return cls(hashlib.sha256(identity).hexdigest(), hashlib.sha256(body).hexdigest())


class Idempotency:
    """Keeps answers by request, in the default database."""

    def __init__(self, database: Callable[[], DatabaseManager | None], lease_s: float, keep_s: float) -> None:
        self._database, self._lease_s, self._keep_s = database, lease_s, keep_s
        self._owner = uuid.uuid4().hex
        self._held: set[str] = set()
        self._prepared: DatabaseManager | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._busy = asyncio.Event()

    def start(self) -> None:
        """Begin to renew leases and to delete what has expired."""
        if not self._tasks:
            self._busy = asyncio.Event()
            self._tasks = [asyncio.create_task(one, name="idempotency") for one in (self._renew(), self._sweep())]

    async def stop(self) -> None:
        """End."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._prepared = None

    async def once(self, key: RequestKey, run: Callable[[], Awaitable[Answer]], *, again: bool) -> Answer:
        """Run what a request asks for, or return what it was answered before.

        Args:
            again: whether it may be run again where nobody knows what became of it.

        Raises:
            KeyInUse: a request with this key is being processed.
            KeyReused: the key was used with another body.
            OutcomeUnknown: the process that ran it is gone, and what it has done is not known.
            ManagerUnavailable: no database is running, so that it cannot be promised to run once.
        """
        database = await self._ready()
        for _ in range(_TRIES):
            row = await self._begin(database, key)
            if row is None:
                return await self._run(database, key, run, again=again)
            if row["expires_at"] > time.time() or _runs(row):
                if row["fingerprint"] != key.fingerprint:
                    raise KeyReused(
                        "This Idempotency-Key was used for a request with another body: use a new one.",
                        [Fault("", "The body is not that of the first request with this key.")],
                    )
                if row["status"] == "done":
                    return Answer(row["answer_status"], row["answer_headers"], row["answer"], replayed=True)
                if _runs(row):
                    raise KeyInUse("A request with this Idempotency-Key is still being processed: try again later.")
                if not again:
                    await self._give_up(database, row)
                    continue
            await self._forget(database, row)
        raise KeyInUse("Other requests with this Idempotency-Key are being processed: try again later.")

    async def sweep(self) -> int:
        """Delete what has expired, and return how many answers that were. Runs by itself every hour."""
        database = await self._ready()
        return await delete_oldest(database, TABLE.name, {"expires_at": {"lt": time.time()}}, AT_ONCE)

    async def _begin(self, database: DatabaseManager, key: RequestKey) -> dict[str, Any] | None:
        """Write that this process runs it; return the row of whoever was first, None where nobody was."""
        now = time.time()
        row = {
            "id": key.id,
            "fingerprint": key.fingerprint,
            "status": "running",
            "owner": self._owner,
            "lease_until": now + self._lease_s,
            "expires_at": now + self._keep_s,
        }
        for _ in range(_TRIES):
            try:
                await database.execute_transaction([{"type": "insert", "table": TABLE.name, "data": row}])
            except Conflict:
                found = await database.find(TABLE.name, {"id": key.id}, limit=1)
                if found:
                    return found[0]
            else:
                return None
        raise KeyInUse("Other requests with this Idempotency-Key are being processed: try again later.")

    async def _run(
        self, database: DatabaseManager, key: RequestKey, run: Callable[[], Awaitable[Answer]], *, again: bool
    ) -> Answer:
        self._held.add(key.id)
        self._busy.set()
        answer: Answer | None = None
        try:
            answer = await run()
        finally:
            self._held.discard(key.id)
            if answer is None and not again:
                answer_kept: Answer | None = unknown()
            else:
                answer_kept = answer if answer is not None and answer.keep else None
            await asyncio.shield(self._end(database, key, answer_kept))
        return answer

    async def _end(self, database: DatabaseManager, key: RequestKey, answer: Answer | None) -> None:
        """Keep an answer, or forget the request; where neither can be written, its lease passes."""
        row = {"id": key.id, **self._running}
        try:
            if answer is None:
                await database.execute_transaction([{"type": "delete", "table": TABLE.name, "where": row}])
            else:
                await self._keep(database, row, answer)
        except Base04Error as error:
            _log.warning("the answer to a request with an Idempotency-Key is not kept", error=str(error))

    async def _keep(self, database: DatabaseManager, where: Mapping[str, Any], answer: Answer) -> None:
        data = {
            "status": "done",
            "answer_status": answer.status,
            "answer_headers": dict(answer.headers),
            "answer": answer.body,
        }
        await database.execute_transaction(
            [{"type": "update", "table": TABLE.name, "where": where, "data": data, "expect": 1}]
        )

    async def _give_up(self, database: DatabaseManager, row: Mapping[str, Any]) -> None:
        """Keep for good that nobody knows what became of a request whose process is gone."""
        where = {name: row[name] for name in ("id", "owner", "status", "lease_until")}
        with contextlib.suppress(Conflict):  # somebody else was first
            await self._keep(database, where, unknown())

    async def _forget(self, database: DatabaseManager, row: Mapping[str, Any]) -> None:
        """Make room for a new run in place of one that has expired, or whose process is gone."""
        where = {name: row[name] for name in ("id", "owner", "status", "lease_until", "expires_at")}
        await database.execute_transaction([{"type": "delete", "table": TABLE.name, "where": where}])

    async def _ready(self) -> DatabaseManager:
        database = self._database()
        if database is None:
            raise ManagerUnavailable("A request with an Idempotency-Key needs the database, which is not running.")
        if self._prepared is not database:
            await database.migrate("idempotency", _MIGRATIONS)
            self._prepared = database
        return database

    async def _renew(self) -> None:
        while True:
            await self._busy.wait()
            await asyncio.sleep(self._lease_s / 3)
            if not self._held:
                self._busy.clear()
                continue
            try:
                await self._renew_leases()
            except Base04Error as error:
                _log.warning("leases of requests cannot be renewed", error=str(error))

    async def _renew_leases(self) -> None:
        database = await self._ready()
        data = {"lease_until": time.time() + self._lease_s}
        renewals: list[Operation] = [
            {"type": "update", "table": TABLE.name, "data": data, "where": {"id": held, **self._running}}
            for held in self._held
        ]
        await carry_out_apart(database, renewals)

    @property
    def _running(self) -> dict[str, str]:
        """What the rows have in common that this process runs."""
        return {"owner": self._owner, "status": "running"}

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            try:
                await self.sweep()
            except Base04Error as error:
                _log.warning("answers that have expired cannot be deleted", error=str(error))


def _runs(row: Mapping[str, Any]) -> bool:
    return bool(row["status"] == "running" and row["lease_until"] > time.time())


def unknown() -> Answer:
    """Return the answer for a request whose process is gone: nobody knows what became of it."""
    from base04.http.problems import problem_members

    error = OutcomeUnknown(
        "The process that ran this request ended before it had answered: what it has done by then is not known. Find "
        "out, and use a new Idempotency-Key to try again."
    )
    body = orjson.dumps(problem_members(error, ""))
    return Answer(502, {"content-type": "application/problem+json"}, body)
