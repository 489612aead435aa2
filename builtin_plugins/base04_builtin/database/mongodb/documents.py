"""From the portable core (operations, conditions, finds) to filters and changes of documents.

A row is a document with a field for each column. None is kept as a field that is not there, so that unique keys hold
for values alone. JSON is kept as its text, as every provider does, so that it comes back as it was; ``_id`` is
MongoDB's own. Every value stands behind an operator that was put there here: none is ever taken for one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from bson import Int64, ObjectId

from base04_builtin.database.conditions import Condition, after_prefix, conditions
from base04_builtin.database.names import check_name
from base04_builtin.database.operations import check_keys, natural
from base04_builtin.database.values import Stored, from_stored, to_stored
from base04_hookspecs.database import ColumnType, TableSchema
from base04_hookspecs.errors import InvalidInput

Filter = dict[str, Any]
Document = dict[str, Any]

_OPERATORS: Final = {"eq": "$eq", "ne": "$ne", "lt": "$lt", "lte": "$lte", "gt": "$gt", "gte": "$gte"}


@dataclass(frozen=True, slots=True)
class Find:
    """Which documents to read; ``limit`` 0 is for all of them."""

    filter: Filter
    projection: dict[str, int] | None
    sort: list[tuple[str, int]]
    offset: int
    limit: int


@dataclass(frozen=True, slots=True)
class Change:
    """One operation. ``single`` ones touch one document at most; ``lacks`` names what an upsert has no value for."""

    kind: Literal["insert", "update", "delete", "upsert"]
    table: str
    place: str
    expect: int | None
    single: bool
    filter: Filter
    update: dict[str, Document]
    document: Document
    lacks: tuple[str, ...] = ()


def plain(value: Any) -> Any:
    """Return a value that was read without the types of BSON that Python has itself; an ``_id`` becomes its text."""
    if isinstance(value, Int64):
        return int(value)
    if isinstance(value, ObjectId):
        return str(value)
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


class DocumentPlanner:
    """Plans what is done with one collection.

    Args:
        name: the table.
        schema: its declaration, None for a collection that nobody declared.
        max_bytes: the most that one value may take.
    """

    def __init__(self, name: str, schema: TableSchema | None, max_bytes: int) -> None:
        self.name = name
        self._schema = schema
        self._max_bytes = max_bytes
        self._types: dict[str, ColumnType] = {c.name: c.type for c in schema.columns} if schema else {}
        self._required = tuple(c.name for c in schema.columns if not c.nullable) if schema else ()
        self._keys = (schema.primary_key, *schema.unique) if schema else ()

    def row(self, document: Mapping[str, Any], columns: Sequence[str] | None) -> dict[str, Any]:
        """Return the row that a document stands for."""
        names = columns or tuple(self._types) or tuple(document)
        return {name: self._value(name, document.get(name)) for name in names}

    def find(
        self, where: Any, order_by: Sequence[str], limit: int | None, offset: int, columns: Sequence[str] | None
    ) -> tuple[Find, tuple[str, ...] | None]:
        """Plan a ``find``, and return the columns of its rows, None for all that there are."""
        names = self._columns(columns)
        projection = dict.fromkeys(names, 1) | {"_id": int("_id" in names)} if names else None
        most = 0 if limit is None else natural(limit, "limit")
        plan = Find(self.filter(where), projection, self._order(order_by), natural(offset, "offset"), most)
        return plan, names

    def filter(self, where: Any) -> Filter:
        """Return the filter for conditions."""
        clauses = [
            clause
            for condition in conditions({} if where is None else where, self._column)
            for clause in self._clauses(condition)
        ]
        return clauses[0] if len(clauses) == 1 else {"$and": clauses} if clauses else {}

    def change(self, operation: Mapping[str, Any], place: str) -> Change:
        """Plan one operation of a transaction.

        Raises:
            InvalidInput: it is not one that the contract knows.
        """
        kind = operation["type"]
        expect = operation.get("expect")
        if expect is not None:
            natural(expect, "expected number of rows")
        check_keys(operation, place)
        if kind == "insert":
            document = self._document(operation["data"], place)
            if lacks := self._lacks(document):
                raise InvalidInput(f"The operation {place} lacks values for {', '.join(lacks)}.")
            return Change(kind, self.name, place, expect, True, {}, {}, document)
        if kind == "upsert":
            return self._upsert(operation, place, expect)
        where = operation.get("where")
        update = {} if kind == "delete" else self._update(operation["data"], place)
        return Change(kind, self.name, place, expect, self._is_single(where), self.filter(where), update, {})

    def _upsert(self, operation: Mapping[str, Any], place: str, expect: int | None) -> Change:
        data, key = operation["data"], self._key(operation["where"], place)
        if not isinstance(data, Mapping) or not key.keys().isdisjoint(data):
            raise InvalidInput(f"The operation {place} needs a mapping 'data' without the columns of its 'where'.")
        update = self._update(data, place) if data else {}
        document = self._document({**key, **data}, place)
        lacks = self._lacks(document)
        if lacks and not data:
            raise InvalidInput(f"The operation {place} lacks values for {', '.join(lacks)}.")
        return Change("upsert", self.name, place, expect, True, self.filter(key), update, document, lacks)

    def _key(self, where: Any, place: str) -> dict[str, Any]:
        found = list(conditions(where, self._column))
        if not found or any(c.operator != "eq" or c.value is None for c in found):
            raise InvalidInput(f"The operation {place} must name its row by equality on a primary or unique key.")
        key = {condition.column: condition.value for condition in found}
        if self._schema is not None and not any(set(candidate) == key.keys() for candidate in self._keys):
            raise InvalidInput(
                f"The operation {place} names its row by {', '.join(key)}, which is no key of {self.name!r}; "
                f"its keys are {', '.join(map(str, self._keys))}."
            )
        return key

    def _is_single(self, where: Any) -> bool:
        """Tell whether conditions name one row at most: they hold all columns of a key by equality."""
        if where is None:
            return False
        found = conditions(where, self._column)
        equal = {each.column for each in found if each.operator == "eq" and each.value is not None}
        return any(equal.issuperset(key) for key in self._keys)

    def _clauses(self, condition: Condition) -> list[Filter]:
        column, operator, value = condition
        if value is None:
            return [{column: {_OPERATORS[operator]: None}}]
        if self._types.get(column) == "json":
            raise InvalidInput(f"The column {column!r} holds JSON, which can only be compared with None.")
        if operator == "in":
            return [{column: {"$in": [None if item is None else self._stored(column, item) for item in value]}}]
        if operator != "prefix":
            return [{column: {_OPERATORS[operator]: self._stored(column, value)}}]
        if self._types.get(column) not in ("string", "text", None):
            raise InvalidInput(f"The operator 'prefix' is for text, and {column!r} is a {self._types[column]}.")
        following = after_prefix(value)
        begin = {column: {"$gte": self._stored(column, value)}}
        return [begin] if following is None else [begin, {column: {"$lt": following}}]

    def _document(self, data: Any, place: str) -> Document:
        self._check_data(data, place)
        return {name: self._stored(name, value) for name, value in data.items() if value is not None}

    def _update(self, data: Any, place: str) -> dict[str, Document]:
        self._check_data(data, place)
        changed = {name: self._stored(name, value) for name, value in data.items() if value is not None}
        gone = {name: "" for name, value in data.items() if value is None}
        return ({"$set": changed} if changed else {}) | ({"$unset": gone} if gone else {})

    def _check_data(self, data: Any, place: str) -> None:
        if not isinstance(data, Mapping) or not data:
            raise InvalidInput(f"The operation {place} needs a mapping 'data' that is not empty.")
        nulls = [name for name in map(self._column, data) if name in self._required and data[name] is None]
        if nulls:
            raise InvalidInput(f"The operation {place} sets {', '.join(nulls)} to None, which cannot be null.")

    def _lacks(self, document: Document) -> tuple[str, ...]:
        return tuple(name for name in self._required if name not in document)

    def _column(self, name: object) -> str:
        column = check_name(name, "column")
        if self._schema is not None and column not in self._types:
            raise InvalidInput(f"The table {self.name!r} has no column {column!r}; it has {', '.join(self._types)}.")
        return column

    def _columns(self, names: Sequence[str] | None) -> tuple[str, ...] | None:
        if names is None:
            return tuple(self._types) or None
        if isinstance(names, str) or not names:
            raise InvalidInput("The columns to return must be a list with at least one name.")
        return tuple(dict.fromkeys(self._column(name) for name in names))

    def _order(self, order_by: Sequence[str]) -> list[tuple[str, int]]:
        if isinstance(order_by, str):
            raise InvalidInput("The order must be a list of column names, '-name' for descending.")
        order: dict[str, int] = {}
        for name in order_by:
            if not isinstance(name, str):
                raise InvalidInput(f"The order {name!r:.100} is not the name of a column.")
            order.setdefault(self._column(name.removeprefix("-")), -1 if name.startswith("-") else 1)
        return list(order.items())

    def _stored(self, column: str, value: Any) -> Stored | Int64:
        if column == "_id" and isinstance(value, str) and ObjectId.is_valid(value):
            return ObjectId(value)  # type: ignore[return-value]  # as rows of undeclared collections show it
        stored = to_stored(value, self._types.get(column), f"the column {column!r}", self._max_bytes)
        return Int64(stored) if isinstance(stored, int) and not isinstance(stored, bool) else stored

    def _value(self, name: str, value: Any) -> Any:
        kind = self._types.get(name)
        if kind is not None:
            value = from_stored(value, kind, f"{self.name}.{name}")
        return plain(value)
