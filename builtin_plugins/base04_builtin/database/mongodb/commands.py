"""Command documents: checked, their parameters bound, and what comes back as rows or a number."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from bson import Binary, Decimal128, Int64, ObjectId
from pymongo.asynchronous.database import AsyncDatabase

from base04_builtin.database.mongodb.documents import plain
from base04_builtin.database.values import to_stored
from base04_hookspecs.errors import Conflict, InvalidInput, OutcomeUnknown

_CURSORS: Final = frozenset({"find", "aggregate", "listCollections", "listIndexes"})
_COUNTED: Final = frozenset({"insert", "update", "delete", "count"})
_READS: Final = frozenset(
    {"find", "aggregate", "listCollections", "listIndexes", "count", "distinct", "ping", "hello", "buildInfo"}
    | {"dbStats", "collStats", "connectionStatus", "explain", "serverStatus"}
)
_OF_THE_MANAGER: Final = frozenset(
    {"commitTransaction", "abortTransaction", "startSession", "endSessions", "refreshSessions", "killSessions"}
    | {"killAllSessions", "authenticate", "logout", "saslStart", "saslContinue", "getMore", "killCursors"}
)
_FIELDS_OF_THE_DRIVER: Final = frozenset(
    {"lsid", "txnNumber", "autocommit", "startTransaction", "$db", "$clusterTime", "$readPreference", "maxTimeMS"}
)
_PLACEHOLDER: Final = re.compile(r":([A-Za-z_][A-Za-z0-9_]*)\Z")
_RESERVED: Final = ("system.", "_base04_")
_DEPTH: Final = 60
_DUPLICATE: Final = 11000


class Command:
    """A command that may be sent.

    With ``params``, every string of the form ``:name`` in it is a placeholder for one value or a list of values, never
    for a document: what comes from outside cannot become an operator such as ``{"$ne": null}``.

    Raises:
        InvalidInput: it is none, or holds what MongoDB cannot keep.
    """

    def __init__(self, query: Any, params: Mapping[str, Any] | None, max_bytes: int) -> None:
        if not isinstance(query, Mapping) or not query:
            raise InvalidInput(
                'The query must be a command document such as {"find": "users", "filter": {"id": 1}}, not '
                f"{type(query).__name__}."
            )
        self._params, self._max_bytes = params, max_bytes
        self.name = next(iter(query))
        self._refuse(query)
        self.document: dict[str, Any] = self._checked(dict(query), 0)

    @property
    def writes(self) -> bool:
        """Whether it may change anything."""
        stages = self.document.get("pipeline")
        last = stages[-1] if isinstance(stages, list) and stages else {}
        return self.name not in _READS or (isinstance(last, dict) and not {"$out", "$merge"}.isdisjoint(last))

    async def run(self, database: AsyncDatabase[dict[str, Any]]) -> Any:
        """Send it, and return rows as a list of dicts, or the number of documents that it touched or counted."""
        codec = database.codec_options
        if self.name in _CURSORS:
            async with await database.cursor_command(self.document, codec_options=codec) as cursor:
                return [plain(document) for document in await cursor.to_list()]
        reply = await database.command(self.document, codec_options=codec)
        _raise_write_errors(reply)
        if self.name in _COUNTED:
            return int(reply["n"])
        if self.name in ("findAndModify", "findandmodify"):
            return [] if reply.get("value") is None else [plain(reply["value"])]
        if self.name == "distinct":
            return [{"value": plain(value)} for value in reply["values"]]
        return [plain({name: value for name, value in reply.items() if not name.startswith("$")})]

    def _refuse(self, query: Mapping[Any, Any]) -> None:
        if not isinstance(self.name, str) or self.name in _OF_THE_MANAGER or self.name.startswith("$"):
            raise InvalidInput(f"The command {self.name!r:.100} is not accepted: sessions belong to the manager.")
        taken = sorted(str(name) for name in query if name in _FIELDS_OF_THE_DRIVER)
        if taken:
            raise InvalidInput(f"The command has the fields {', '.join(taken)}, which belong to the manager.")
        target = query[self.name]
        if isinstance(target, str) and target.startswith(_RESERVED):
            raise InvalidInput(f"The collection {target!r:.100} is reserved: it is not for commands.")

    def _checked(self, value: Any, depth: int) -> Any:
        if depth > _DEPTH:
            raise InvalidInput(f"The command is nested more than {_DEPTH} deep, or holds itself.")
        if isinstance(value, Mapping):
            return {self._name(name): self._checked(item, depth + 1) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._checked(item, depth + 1) for item in value]
        if isinstance(value, str):
            placeholder = _PLACEHOLDER.match(value) if self._params is not None else None
            return self._text(value) if placeholder is None else self._parameter(placeholder[1])
        if value is None or isinstance(value, bool | ObjectId | Binary | Decimal128 | Int64 | re.Pattern):
            return value
        if isinstance(value, datetime):
            if value.tzinfo is None:
                raise InvalidInput("The command holds a datetime without a time zone; give it one, as datetime.UTC.")
            return value
        if isinstance(value, float) and not math.isfinite(value):
            raise InvalidInput(f"The command holds {value}, and numbers must be finite.")
        return to_stored(value, None, "the command", self._max_bytes)

    def _name(self, name: Any) -> str:
        if not isinstance(name, str):
            raise InvalidInput(f"A field of the command is named {name!r:.100}: write a string.")
        return self._text(name)

    def _text(self, text: str) -> str:
        return str(to_stored(text, "text", "the command", self._max_bytes))

    def _parameter(self, name: str) -> Any:
        if self._params is None or name not in self._params:
            raise InvalidInput(f"The command has the placeholder ':{name}', and no parameter of that name was given.")
        value = self._params[name]
        if isinstance(value, list | tuple):
            return [self._bound(name, item) for item in value]
        return self._bound(name, value)

    def _bound(self, name: str, value: Any) -> Any:
        stored = to_stored(value, None, f"the parameter {name!r}", self._max_bytes)
        return Int64(stored) if isinstance(stored, int) and not isinstance(stored, bool) else stored


def _raise_write_errors(reply: Mapping[str, Any]) -> None:
    """Raise what a reply that counts as a success says about single documents."""
    faults = reply.get("writeErrors") or []
    if any(fault.get("code") == _DUPLICATE for fault in faults):
        raise Conflict(f"The database refuses a change: a unique key is taken. It made {reply.get('n', 0)} before.")
    if faults:
        raise InvalidInput(f"The database does not accept a change. It made {reply.get('n', 0)} before.")
    if reply.get("writeConcernError"):
        raise OutcomeUnknown("The database made the change and could not confirm that it is kept by a majority.")
