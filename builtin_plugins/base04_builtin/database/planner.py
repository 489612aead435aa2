"""From the portable core (operations, conditions, finds) to statements with bound values, for SQL databases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from base04_builtin.database.compiling import Compiled, Order, Shape, compiler, count
from base04_builtin.database.conditions import Condition, after_prefix, conditions
from base04_builtin.database.dialects import Dialect
from base04_builtin.database.names import check_name
from base04_builtin.database.operations import check_keys, natural
from base04_builtin.database.requests import Query, Rows, Step
from base04_builtin.database.templates import Plain, Slot, Template, are_natural, find_shape, operation_shape, slot
from base04_builtin.database.values import Stored, from_stored, to_stored
from base04_hookspecs.database import ColumnType, TableSchema
from base04_hookspecs.errors import InvalidInput

_TEMPLATES: Final = 512
_LOOSE: Final = frozenset({"boolean", "float", "timestamp", "json"})


class TablePlanner:
    """Plans statements on one table.

    Args:
        dialect: the dialect of the database.
        name: the table.
        schema: its declaration, None for a table that was made with plain SQL.
        max_bytes: the most that one value may take.
    """

    def __init__(self, dialect: Dialect, name: str, schema: TableSchema | None, max_bytes: int) -> None:
        self.name = name
        self._dialect = dialect
        self._schema = schema
        self._declared = name if schema is not None else ""
        self._max_bytes = max_bytes
        self._types: dict[str, ColumnType] = {c.name: c.type for c in schema.columns} if schema else {}
        self._required = frozenset(c.name for c in schema.columns if not c.nullable) if schema else frozenset()
        self._keys = (schema.primary_key, *schema.unique) if schema else ()
        self._templates: dict[tuple[Any, ...] | None, Template] = {}
        self._loose = {} if dialect.typed else {name: of for name, of in self._types.items() if of in _LOOSE}

    def column(self, name: object) -> str:
        """Return the name of a column of the table.

        Raises:
            InvalidInput: it is no name, or the table has no such column.
        """
        column = check_name(name, "column")
        if self._schema is not None and column not in self._types:
            raise InvalidInput(f"The table {self.name!r} has no column {column!r}; it has {', '.join(self._types)}.")
        return column

    def type_of(self, column: str) -> ColumnType | None:
        """Return the declared type of a column, None where none is known."""
        return self._types.get(column)

    def typed(self, rows: Rows) -> Rows:
        """Return rows that were read, each value as its column was declared; they may be changed in place."""
        for row in rows if self._loose else ():
            for name in row.keys() & self._loose.keys():
                row[name] = from_stored(row[name], self._loose[name], f"{self.name}.{name}")
        return rows

    def columns(self, names: Sequence[str] | None) -> tuple[str, ...] | None:
        """Return the columns to read; None for whatever an undeclared table has."""
        if names is None:
            return tuple(self._types) or None
        if isinstance(names, str) or not names:
            raise InvalidInput("The columns to return must be a list with at least one name.")
        return tuple(dict.fromkeys(self.column(name) for name in names))

    def select(
        self, where: Any, order_by: Sequence[str], limit: int | None, offset: int, columns: Sequence[str] | None
    ) -> Query:
        """Plan a ``find``."""
        limited = limit is not None or offset != 0
        known = find_shape(where, order_by, columns, limited)
        template = self._templates.get(known)
        if template is not None:
            values = [*where.values()] if where else []
            bounds = [self._dialect.unlimited if limit is None else limit, offset] if limited else []
            bound = template.bind(values + bounds) if limit is None or are_natural(limit) else None
            if bound is not None and are_natural(offset):
                return Query(template.sql, bound)
        query = self._select(where, order_by, limit, offset, columns)
        if known is not None:
            compiled = compiler().select(
                self._dialect,
                self.name,
                self.columns(columns),
                _equal(known[0]),
                self._order(order_by),
                limited=limited,
            )
            self._learn(known, compiled, (), known[0], single=False)
        return query

    def _select(
        self, where: Any, order_by: Sequence[str], limit: int | None, offset: int, columns: Sequence[str] | None
    ) -> Query:
        shape, values = self._where(where)
        bounds = [self._dialect.unlimited if limit is None else natural(limit, "limit"), natural(offset, "offset")]
        limited = limit is not None or offset != 0
        compiled = compiler().select(
            self._dialect, self.name, self.columns(columns), shape, self._order(order_by), limited=limited
        )
        return Query(compiled.sql, compiled.bind(values + bounds))

    def count(self, where: Any) -> Query:
        """Plan a ``count``."""
        shape, values = self._where(where)
        compiled = count(self._dialect, self.name, shape)
        return Query(compiled.sql, compiled.bind(values))

    def step(self, operation: Mapping[str, Any], place: str) -> Step:
        """Plan one operation of a transaction.

        Raises:
            InvalidInput: it is not one that the contract knows.
        """
        shape = operation_shape(operation)
        template = self._templates.get(shape)
        if template is not None:
            step = template.step(operation, place)
            if step is not None:
                return step
        step = self._step(operation, place)._replace(table=self._declared)
        if shape is not None:
            self._learn_operation(shape, step)
        return step

    def _step(self, operation: Mapping[str, Any], place: str) -> Step:
        kind = operation["type"]
        expect = operation.get("expect")
        if expect is not None:
            natural(expect, "expected number of rows")
        check_keys(operation, place)
        if kind == "insert":
            return self._insert(operation["data"], place, expect)
        if kind == "upsert":
            return self._upsert(operation["data"], operation["where"], place, expect)
        shape, values = self._where(operation.get("where"))
        if kind == "delete":
            compiled = compiler().delete(self._dialect, self.name, shape)
            return Step(compiled.sql, compiled.bind(values), place, expect, single=self._is_single(shape))
        names, data = self._data(operation["data"], place)
        compiled = compiler().update(self._dialect, self.name, names, shape)
        return Step(compiled.sql, compiled.bind(data + values), place, expect, single=self._is_single(shape))

    def _insert(
        self, data: Any, place: str, expect: int | None, unless: tuple[str, ...] = (), *, complete: bool = True
    ) -> Step:
        names, values = self._data(data, place)
        if self._schema is not None and complete:
            missing = [c.name for c in self._schema.columns if not c.nullable and data.get(c.name) is None]
            if missing:
                raise InvalidInput(f"The operation {place} lacks values for {', '.join(missing)}.")
        compiled = compiler().insert(self._dialect, self.name, names, unless)
        return Step(compiled.sql, compiled.bind(values), place, expect, single=True)

    def _upsert(self, data: Any, where: Any, place: str, expect: int | None) -> Step:
        key = self._key(where, place)
        if not isinstance(data, Mapping) or not key.keys().isdisjoint(data):
            raise InvalidInput(f"The operation {place} needs a mapping 'data' without the columns of its 'where'.")
        both = {**key, **data}
        if not data:
            return self._insert(both, place, expect, tuple(key))
        names, values = self._data(data, place)
        shape, matched = self._where(key)
        compiled = compiler().update(self._dialect, self.name, names, shape)
        again = Step(compiled.sql, compiled.bind(values + matched), place, expect, single=True)
        unless = tuple(key) if self._schema is not None else ()
        absent = self._insert(both, place, expect, unless, complete=False)  # what it lacks may not be needed
        return again._replace(otherwise=absent._replace(otherwise=again if unless else None))

    def _learn_operation(self, known: tuple[Any, ...], step: Step) -> None:
        kind, _, data, where = known
        if kind == "insert":
            compiled = compiler().insert(self._dialect, self.name, data)
        elif kind == "update":
            compiled = compiler().update(self._dialect, self.name, data, _equal(where))
        else:
            compiled = compiler().delete(self._dialect, self.name, _equal(where))
        self._learn(known, compiled, data, where, single=step.single)

    def _learn(
        self,
        known: tuple[Any, ...],
        compiled: Compiled,
        data: tuple[str, ...],
        where: tuple[str, ...],
        *,
        single: bool,
    ) -> None:
        names = [*((name, name in self._required) for name in data), *((name, True) for name in where)]
        slots = [
            slot(place, self.type_of(name), self._max_bytes, required=required)
            for place, (name, required) in enumerate(names)
        ]
        slots += [Slot(place, _as_it_is) for place in range(len(slots), len(compiled.order))]
        if len(self._templates) >= _TEMPLATES:
            self._templates.clear()
        plain = Plain.of(compiled.order, [self.type_of(name) for name, _ in names], self._max_bytes)
        self._templates[known] = Template(compiled.sql, compiled.bind(slots), single, self._declared, plain)

    def _key(self, where: Any, place: str) -> dict[str, Any]:
        found = list(conditions(where, self.column))
        if not found or any(c.operator != "eq" or c.value is None for c in found):
            raise InvalidInput(f"The operation {place} must name its row by equality on a primary or unique key.")
        key = {condition.column: condition.value for condition in found}
        if self._schema is not None and not any(set(candidate) == key.keys() for candidate in self._keys):
            raise InvalidInput(
                f"The operation {place} names its row by {', '.join(key)}, which is no key of {self.name!r}; "
                f"its keys are {', '.join(map(str, self._keys))}."
            )
        return key

    def _is_single(self, shape: Shape) -> bool:
        """Tell whether conditions name one row at most: they hold all columns of a key by equality."""
        equal = {column for column, operator, _ in shape if operator == "eq"}
        return any(equal.issuperset(key) for key in self._keys)

    def _data(self, data: Any, place: str) -> tuple[tuple[str, ...], list[Stored]]:
        if not isinstance(data, Mapping) or not data:
            raise InvalidInput(f"The operation {place} needs a mapping 'data' that is not empty.")
        names = tuple(self.column(name) for name in data)
        if self._schema is not None:
            nulls = [c.name for c in self._schema.columns if not c.nullable and data.get(c.name, 0) is None]
            if nulls:
                raise InvalidInput(f"The operation {place} sets {', '.join(nulls)} to None, which cannot be null.")
        return names, [self._stored(name, value) for name, value in data.items()]

    def _where(self, where: Any) -> tuple[Shape, list[Any]]:
        shape: list[tuple[str, str, int]] = []
        values: list[Any] = []
        for condition in conditions({} if where is None else where, self.column):
            for operator, operands in self._clauses(condition):
                shape.append((condition.column, operator, len(operands)))
                values.extend(self._stored(condition.column, operand) for operand in operands)
        return tuple(shape), values

    def _clauses(self, condition: Condition) -> list[tuple[str, list[Any]]]:
        column, operator, value = condition
        if value is None:
            return [("null" if operator == "eq" else "not_null", [])]
        if self.type_of(column) == "json":
            raise InvalidInput(f"The column {column!r} holds JSON, which can only be compared with None.")
        if operator == "in":
            present = [item for item in value if item is not None]
            return [("in" if len(present) == len(value) else "in_or_null", _padded(present))]
        if operator != "prefix":
            return [(operator, [value])]
        if self.type_of(column) not in ("string", "text", None):
            raise InvalidInput(f"The operator 'prefix' is for text, and {column!r} is a {self.type_of(column)}.")
        following = after_prefix(value)
        return [("from", [value])] if following is None else [("from", [value]), ("below", [following])]

    def _order(self, order_by: Sequence[str]) -> Order:
        if isinstance(order_by, str):
            raise InvalidInput("The order must be a list of column names, '-name' for descending.")
        order = []
        for name in order_by:
            if not isinstance(name, str):
                raise InvalidInput(f"The order {name!r:.100} is not the name of a column.")
            column = self.column(name.removeprefix("-"))
            order.append((column, name.startswith("-"), column not in self._required))
        return tuple(order)

    def _stored(self, column: str, value: Any) -> Stored:
        return to_stored(value, self.type_of(column), f"the column {column!r}", self._max_bytes)


def _equal(columns: tuple[str, ...]) -> Shape:
    return tuple((column, "eq", 1) for column in columns)


def _as_it_is(value: Any) -> Stored:
    return value  # type: ignore[no-any-return]  # a limit, which has been checked


def _padded(values: list[Any]) -> list[Any]:
    """Repeat the last value up to a power of two: lists of many lengths then share few compiled statements."""
    if not values:
        return values
    length = 1 << (len(values) - 1).bit_length()
    return values + values[-1:] * (length - len(values))
