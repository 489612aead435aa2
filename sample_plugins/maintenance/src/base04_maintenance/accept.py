"""Whether somebody wants a page or data."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Scope


def wants_page(scope: Scope) -> bool:
    """Tell whether a request prefers HTML, as browsers do and programs do not."""
    fields: Iterable[tuple[bytes, bytes]] = scope["headers"]
    accepted = b",".join(value for name, value in fields if name == b"accept").lower()
    kinds = [kind.partition(b";")[0].strip() for kind in accepted.split(b",")]
    return b"text/html" in kinds and b"application/json" not in kinds[: kinds.index(b"text/html")]
