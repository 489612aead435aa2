"""Checking the arguments and the result of one action against its compiled schemas."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from typing import Any, Final

import orjson
from jsonschema_rs import Draft202012Validator, ValidationError, ValidationErrorKind

from base04_builtin.action_discovery.defaults import Fill, FlatFill, IntegerTooLarge, as_integer, flat_fill
from base04_builtin.action_discovery.faults import nearest
from base04_builtin.action_discovery.schema_keywords import pointer
from base04_hookspecs.errors import Fault, InvalidInput

MAX_FAULTS: Final = 100

Validate = Callable[[Mapping[str, Any]], dict[str, Any]]
Check = Callable[[Any], None]


def arguments_validator(
    action: str, schema: dict[str, Any], validator: Draft202012Validator, fill: Fill | None
) -> Validate:
    """Return the function that fills and checks the arguments of an action."""
    known = tuple(schema["properties"])
    is_valid = validator.is_valid

    def validate(args: Mapping[str, Any]) -> dict[str, Any]:
        if not isinstance(args, Mapping):
            raise InvalidInput(
                f"The arguments of {action!r} must be an object, with a member for each parameter.",
                [Fault("", "The value must be an object.")],
            )
        given = dict(args)
        try:
            filled: dict[str, Any] = given if fill is None else fill(given)
            if is_valid(filled):
                return filled
            faults = _faults(validator, filled, known)
        except RecursionError as error:
            raise InvalidInput(f"The arguments of {action!r} are nested too deeply.") from error
        except IntegerTooLarge as error:
            raise InvalidInput(f"The arguments of {action!r} cannot be used: {error}.") from error
        except ValueError as error:  # a Python value that is not JSON
            raise InvalidInput(f"The arguments of {action!r} are not JSON: {error}.") from error
        raise InvalidInput(f"The arguments of {action!r} are not as declared. {_summary(faults)}", faults)

    flat = flat_fill(schema, fill)
    return validate if flat is None else _flat_validator(is_valid, flat, validate)


def _flat_validator(is_valid: Callable[[Any], bool], flat: FlatFill, validate: Validate) -> Validate:
    """Return a quick function for arguments that are valid before anything is filled; ``validate`` has all others."""
    defaults, integers = tuple(flat.defaults.items()), frozenset(flat.integers)
    others = tuple(integers - flat.defaults.keys())

    def validate_flat(args: Mapping[str, Any]) -> dict[str, Any]:
        try:
            if type(args) is not dict or not is_valid(args):
                return validate(args)
            filled = args.copy()
            for name, default in defaults:
                value = filled.setdefault(name, default)
                if type(value) is float and name in integers:
                    filled[name] = as_integer(value)
            for name in others:
                if type(filled.get(name)) is float:
                    filled[name] = as_integer(filled[name])
        except (RecursionError, ValueError):  # of which `validate` tells
            return validate(args)
        return filled

    return validate_flat


def result_check(action: str, validator: Draft202012Validator) -> Check:
    """Return the function that checks the result of an action."""

    def check(result: Any) -> None:
        try:
            if validator.is_valid(result):
                return
        except ValueError:  # something that becomes JSON, such as a UUID
            result = orjson.loads(orjson.dumps(result))
            if validator.is_valid(result):
                return
        faults = _faults(validator, result, ())
        raise InvalidInput(f"The result of {action!r} is not as declared. {_summary(faults)}", faults)

    return check


def _faults(validator: Draft202012Validator, value: Any, known: tuple[str, ...]) -> list[Fault]:
    found = (fault for error in validator.iter_errors(value) for fault in _of_error(error, known))
    return list(dict.fromkeys(islice(found, MAX_FAULTS)))


def _of_error(error: ValidationError, known: tuple[str, ...]) -> Iterator[Fault]:
    path, kind = error.instance_path, error.kind
    if isinstance(kind, ValidationErrorKind.Required):
        yield Fault(pointer((*path, kind.property)), "This is required.")
    elif isinstance(kind, ValidationErrorKind.AdditionalProperties | ValidationErrorKind.UnevaluatedProperties):
        for name in kind.unexpected:
            hint = "." if path else nearest(name, known)
            yield Fault(pointer((*path, name)), f"This is not expected here{hint}")
    else:
        message = error.message
        yield Fault(pointer(tuple(path)), f"{message[0].upper()}{message[1:]}.")


def _summary(faults: list[Fault]) -> str:
    shown = "; ".join(f"{fault.pointer or '(the whole)'}: {fault.message.rstrip('.')}" for fault in faults[:3])
    more = f"; and {len(faults) - 3} more" if len(faults) > 3 else ""
    return f"{shown}{more}" if shown.endswith("?") and not more else f"{shown}{more}."
