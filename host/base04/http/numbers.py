"""Numbers in the query of a request."""

from __future__ import annotations

from collections.abc import Mapping

from base04_hookspecs.errors import Fault, InvalidInput


def number_in(parameters: Mapping[str, str], name: str, most: int = 10_000) -> int | None:
    """Return the number that a parameter gives, None where it is not there.

    Raises:
        InvalidInput: it is not a number from 0 to ``most``.
    """
    text = parameters.get(name)
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= most):
        raise InvalidInput(
            f"The parameter {name!r} is a number from 0 to {most}, not {text!r:.100}.",
            [Fault(f"/{name}", f"It is a number from 0 to {most}.")],
        )
    return int(text)
