"""The forms that the graph can be had in, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from base04.graph.description import Graph
from base04.graph.notations import dot, mermaid
from base04.graph.svg import svg


class Form(NamedTuple):
    """How it is drawn, and as what it is sent over HTTP."""

    draw: Callable[[Graph], str]
    media_type: str


FORMS: Final = {
    "svg": Form(svg, "image/svg+xml"),
    "mermaid": Form(mermaid, "text/plain"),
    "dot": Form(dot, "text/vnd.graphviz"),
}
