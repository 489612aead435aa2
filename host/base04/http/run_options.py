"""How a request wants its action run: what the query and the header fields say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.types import Scope

from base04_hookspecs.errors import Fault, InvalidInput

_LONGEST_WAIT_S: Final = 60.0
QUOTED_KEY: Final = r'"([ !#-\[\]-~]|\\["\\]){1,255}"'
BARE_KEY: Final = r"[!#-+\--:<-\[\]-~]{1,255}"
_TRUE: Final = ("true", "1", "")
_FALSE: Final = ("false", "0")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """``wait`` is how many seconds the answer may take of an action that runs in the background."""

    dry_run: bool = False
    respond_async: bool = False
    wait: float = 0.0
    key: str | None = None


PLAIN: Final = RunOptions()


def options_of(fields: Mapping[bytes, bytes], scope: Scope) -> RunOptions:
    """Read the options of a request; ``PLAIN`` itself where it has none.

    Raises:
        InvalidInput: ``dry_run`` is neither true nor false.
        HTTPException: 400 for an ``Idempotency-Key`` that is not one text.
    """
    query, prefer, key = scope["query_string"], fields.get(b"prefer"), fields.get(b"idempotency-key")
    if not query and prefer is None and key is None:
        return PLAIN
    preferences = {} if prefer is None else _preferences(scope["headers"])
    options = RunOptions(
        dry_run=bool(query) and _is_dry(query),
        respond_async="respond-async" in preferences,
        wait=_seconds(preferences.get("wait", "0")),
        key=None if key is None else _key(scope["headers"]),
    )
    return PLAIN if options == PLAIN else options


def _is_dry(query: bytes) -> bool:
    found = dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=None)).get("dry_run")
    if found is None or found in _FALSE:
        return False
    if found in _TRUE:
        return True
    raise InvalidInput("The query cannot be read.", [Fault("/dry_run", "It is true or false.")])


def _preferences(headers: list[tuple[bytes, bytes]]) -> dict[str, str]:
    """Read ``Prefer`` (RFC 7240, section 2): of a preference that comes twice the first counts."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name == b"prefer":
            for part in value.decode("latin-1").split(","):
                token, _, setting = part.partition(";")[0].partition("=")
                found.setdefault(token.strip().lower(), setting.strip().strip('"'))
    return found


def _seconds(text: str) -> float:
    """Read how long to wait; what cannot be read is ignored, as are preferences that nobody knows."""
    return min(float(text), _LONGEST_WAIT_S) if re.fullmatch(r"[0-9]{1,6}", text) else 0.0


def _key(headers: list[Any]) -> str:
    """Read ``Idempotency-Key`` (draft-ietf-httpapi-idempotency-key-header, section 2.1): a text in quotes.

    Many clients leave the quotes out, so a text without them is taken as well.
    """
    values = [value for name, value in headers if name == b"idempotency-key"]
    text = values[0].decode("latin-1").strip() if len(values) == 1 else ""
    if re.fullmatch(QUOTED_KEY, text):
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    if re.fullmatch(BARE_KEY, text):
        return text
    raise HTTPException(
        400, 'The header Idempotency-Key must hold one text of at most 255 characters in quotes: "8e03978e-40d5".'
    )
