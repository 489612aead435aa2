"""Query parameters of routes that list what was kept, newest first."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Iterable, Mapping
from typing import Final

from base04_hookspecs.errors import Fault
from base04_hookspecs.settings import parse_duration

_SECONDS: Final = re.compile(r"\d{1,12}(\.\d{1,9})?\Z")
_ID: Final = re.compile(r"[0-9a-f]{1,64}\Z")


def refuse_unknown(parameters: Mapping[str, str], known: Iterable[str], faults: list[Fault]) -> None:
    """Note every parameter that there is not."""
    known = tuple(known)
    for name in parameters:
        if name not in known:
            faults.append(Fault(f"/{name}", f"There is no such parameter; there are {', '.join(known)}."))


def read_choice(name: str, parameters: Mapping[str, str], choices: Iterable[str], faults: list[Fault]) -> str | None:
    """Read one of several words."""
    value, choices = parameters.get(name), tuple(choices)
    if value is not None and value not in choices:
        faults.append(Fault(f"/{name}", f"It is one of {', '.join(choices)}."))
    return value


def read_limit(parameters: Mapping[str, str], faults: list[Fault]) -> int:
    """Read how many are asked for, 100 where nothing is said."""
    limit = parameters.get("limit", "100")
    if re.fullmatch(r"[0-9]{1,4}", limit) and 1 <= int(limit) <= 1000:
        return int(limit)
    faults.append(Fault("/limit", "It is a number from 1 to 1000."))
    return 100


def read_before(parameters: Mapping[str, str], faults: list[Fault]) -> str | None:
    """Read the id to go on before."""
    before = parameters.get("before")
    if before is not None and not _ID.match(before):
        faults.append(Fault("/before", "It is the 'next' of the page before."))
    return before


def read_moment(name: str, parameters: Mapping[str, str], faults: list[Fault]) -> float | None:
    """Read seconds since the epoch, an ISO 8601 time, or how long ago it was, as in ``2h``."""
    text = parameters.get(name)
    if text is None:
        return None
    try:
        if _SECONDS.match(text):
            return float(text)
        if text[-1:].isalpha() and text[:-1].strip().isascii() and text[:1].isdigit() and "T" not in text:
            return time.time() - parse_duration(text)
        found = datetime.datetime.fromisoformat(text)
        return (found if found.tzinfo is not None else found.astimezone()).timestamp()
    except (ValueError, OverflowError, OSError):
        faults.append(Fault(f"/{name}", "It is '2026-11-23T10:00Z', seconds since 1970, or how long ago: '2h', '7d'."))
        return None
