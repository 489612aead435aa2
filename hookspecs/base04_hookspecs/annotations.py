"""Reading the annotation of a parameter that asks for a manager."""

from __future__ import annotations

import types
import typing
from typing import Annotated, Any, get_args, get_origin

from base04_hookspecs.markers import Use


def unwrap(hint: Any) -> tuple[Any, Use, bool]:
    """Strip ``Annotated`` and ``| None``: return the type, how it is to be used, and whether it may be None."""
    use, optional = Use(), False
    while True:
        if get_origin(hint) is Annotated:
            hint, *marks = get_args(hint)
            use = next((mark for mark in marks if isinstance(mark, Use)), use)
            continue
        if get_origin(hint) in (typing.Union, types.UnionType):
            members = [member for member in get_args(hint) if member is not types.NoneType]
            if len(members) == 1:
                hint, optional = members[0], True
                continue
        return hint, use, optional
