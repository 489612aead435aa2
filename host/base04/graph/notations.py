"""The graph in the notations of other programs: Mermaid and Graphviz."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from base04.graph.description import Graph, GraphNode


def mermaid(graph: Graph) -> str:
    """Write a Mermaid flowchart; what is needed only where it is there is dotted."""
    names = _identifiers(node["manager"] for node in graph["nodes"])
    lines = ["flowchart TD"]
    lines += [f'    {names[node["manager"]]}["{_escaped("<br/>", node)}"]' for node in graph["nodes"]]
    for edge in graph["edges"]:
        arrow = "-.->" if edge["optional"] else "-->"
        lines.append(f"    {names[edge['from']]} {arrow} {names[edge['to']]}")
    return "\n".join(lines) + "\n"


def _identifiers(names: Iterable[str]) -> dict[str, str]:
    """Return for each name one that Mermaid takes as an identifier."""
    found: dict[str, str] = {}
    for name in names:
        identifier = "m_" + re.sub(r"\W", "_", name)
        while identifier in found.values():
            identifier += "_"
        found[name] = identifier
    return found


def _escaped(line_break: str, node: GraphNode) -> str:
    return line_break.join(text.replace('"', "#quot;") for text in captions(node))


def dot(graph: Graph) -> str:
    """Write a digraph for Graphviz, as in ``base04 graph --format dot | dot -Tpdf``."""
    return "\n".join(["digraph base04 {", "    node [shape=box];", *_dot_lines(graph), "}"]) + "\n"


def _dot_lines(graph: Graph) -> Iterator[str]:
    for node in graph["nodes"]:
        yield f"    {json.dumps(node['manager'])} [label={json.dumps(chr(10).join(captions(node)))}];"
    for edge in graph["edges"]:
        style = " [style=dashed]" if edge["optional"] else ""
        yield f"    {json.dumps(edge['from'])} -> {json.dumps(edge['to'])}{style};"


def captions(node: GraphNode) -> list[str]:
    """Return what is written of a manager, line by line: its name, its provider, whose it is."""
    return [node["manager"], node["provider"], *([node["origin"]] if node["origin"] else [])]
