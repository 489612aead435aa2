"""The graph drawn as SVG: needs nothing but a viewer, and can be read on light and on dark ground."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from base04.graph.description import Graph, GraphNode
from base04.graph.layers import Edge, Vertex, arrange
from base04.graph.notations import captions
from base04.graph.placement import place

_MARGIN, _GAP, _ROW_GAP, _LINE, _PADDING = 12.0, 28.0, 64.0, 18.0, 12.0
_LETTER, _BOLD_LETTER, _FEWEST_LETTERS = 7.4, 8.6, 10
_WIDEST = 960.0
"""How wide the rows of managers are that nothing is joined to."""

_STYLE = """
    text { font: 13px system-ui, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; text-anchor: middle; fill: #1a237e; }
    .name { font-weight: 600; }
    rect { fill: #e8eaf6; stroke: #5c6bc0; stroke-width: 1.2; }
    .added rect { fill: #fff3e0; stroke: #ef6c00; }
    .added text { fill: #5d2a00; }
    path { fill: none; stroke: #7986cb; stroke-width: 1.4; }
    .optional { stroke-dasharray: 5 4; }
    marker path { fill: #7986cb; stroke: none; }
"""

_Way = list[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class _Box:
    node: GraphNode
    left: float
    top: float
    width: float
    height: float

    @property
    def middle(self) -> float:
        return self.left + self.width / 2


def svg(graph: Graph) -> str:
    """Draw the graph: who needs something above what is needed, managers that nothing is joined to below all.

    A dashed line leads to what is needed only where it is there. Managers of third parties have another colour.
    """
    boxes, points, width, height = _laid_out(graph)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_number(width)} {_number(height)}" '
        f'width="{_number(width)}" height="{_number(height)}" role="img" aria-labelledby="what">',
        f'  <title id="what">{escape(_told(graph))}</title>',
        f"  <style>{_STYLE}  </style>",
        '  <marker id="end" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M 0 1 L 10 5 L 0 9 z"/></marker>',
        *_edges(graph, boxes, points),
        *(line for box in boxes.values() for line in _box(box)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _told(graph: Graph) -> str:
    """Say in words what the picture shows, for who cannot see it."""
    needs: dict[str, list[str]] = {}
    for edge in graph["edges"]:
        needs.setdefault(edge["from"], []).append(edge["to"])
    said = [f"{name} needs {', '.join(needed)}" for name, needed in needs.items()]
    return f"{len(graph['nodes'])} managers: {'; '.join(said) or 'none needs another'}."


def _laid_out(graph: Graph) -> tuple[dict[str, _Box], dict[Vertex, _Way], float, float]:
    """Return the boxes by name, where edges pass a layer, from its top to its bottom, and the size of the picture."""
    nodes = {node["manager"]: node for node in graph["nodes"]}
    layers = arrange(nodes, [(edge["from"], edge["to"]) for edge in graph["edges"]])
    middles = place(layers, lambda vertex: _GAP / 2 if vertex.passing else _width(nodes[vertex.name]), _GAP)
    boxes: dict[str, _Box] = {}
    points: dict[Vertex, _Way] = {}
    top = _MARGIN
    for row in layers.rows:
        height = max(_height(nodes[vertex.name]) for vertex in row if not vertex.passing)
        for vertex in row:
            if vertex.passing:
                x = _MARGIN + middles[vertex]
                points[vertex] = [(x, top), (x, top + height)]
            else:
                node = nodes[vertex.name]
                left = _MARGIN + middles[vertex] - _width(node) / 2
                boxes[vertex.name] = _Box(node, left, top, _width(node), _height(node))
        top += height + _ROW_GAP
    widest = max((box.left + box.width for box in boxes.values()), default=0.0)
    apart = _apart([node for name, node in nodes.items() if name not in boxes], top, max(widest, _WIDEST))
    boxes.update({box.node["manager"]: box for box in apart})
    right = max((box.left + box.width for box in boxes.values()), default=0.0)
    bottom = max((box.top + box.height for box in boxes.values()), default=0.0)
    return boxes, points, right + _MARGIN, bottom + _MARGIN


def _apart(nodes: Sequence[GraphNode], top: float, widest: float) -> Iterator[_Box]:
    """Yield boxes in rows, from the left."""
    left, lowest = _MARGIN, top
    for node in nodes:
        if left > _MARGIN and left + _width(node) > widest:
            left, top = _MARGIN, lowest + _GAP
        yield _Box(node, left, top, _width(node), _height(node))
        left, lowest = left + _width(node) + _GAP, max(lowest, top + _height(node))


def _width(node: GraphNode) -> float:
    name, *others = map(len, captions(node))
    return max(name * _BOLD_LETTER, max(_FEWEST_LETTERS, *others) * _LETTER) + 2 * _PADDING


def _height(node: GraphNode) -> float:
    return len(captions(node)) * _LINE + _PADDING


def _edges(graph: Graph, boxes: dict[str, _Box], points: dict[Vertex, _Way]) -> Iterator[str]:
    ways = _ways(graph, boxes, points)
    for edge in graph["edges"]:
        kind = ' class="optional"' if edge["optional"] else ""
        told = f"{edge['from']} needs {edge['to']}: {edge['through']}"
        way = _curve(ways[edge["from"], edge["to"]])
        yield f'  <path{kind} d="{way}" marker-end="url(#end)"><title>{escape(told)}</title></path>'


def _ways(graph: Graph, boxes: dict[str, _Box], points: dict[Vertex, _Way]) -> dict[Edge, _Way]:
    """Return the points of each edge; the edges of a box share its width in the order in which they lead away."""
    ways: dict[Edge, _Way] = {(edge["from"], edge["to"]): [] for edge in graph["edges"]}
    for vertex in sorted(points, key=lambda vertex: vertex.layer):
        ways[vertex.name, vertex.passing or ""] += points[vertex]
    leaving: dict[str, list[tuple[float, Edge]]] = defaultdict(list)
    coming: dict[str, list[tuple[float, Edge]]] = defaultdict(list)
    for edge, way in ways.items():
        start, end = edge
        leaving[start].append((way[0][0] if way else boxes[end].middle, edge))
        coming[end].append((way[-1][0] if way else boxes[start].middle, edge))
    for name, box in boxes.items():
        for x, edge in _shared(box, leaving[name]):
            ways[edge].insert(0, (x, box.top + box.height))
        for x, edge in _shared(box, coming[name]):
            ways[edge].append((x, box.top))
    return ways


def _shared(box: _Box, edges: list[tuple[float, Edge]]) -> Iterator[tuple[float, Edge]]:
    for number, (_, edge) in enumerate(sorted(edges), start=1):
        yield box.left + box.width * number / (len(edges) + 1), edge


def _curve(way: _Way) -> str:
    """Return a line through points from above to below that leaves and reaches each of them straight down."""
    (x, y), *rest = way
    parts = [f"M {_number(x)} {_number(y)}"]
    for next_x, next_y in rest:
        half = _number((y + next_y) / 2)
        parts.append(f"C {_number(x)} {half} {_number(next_x)} {half} {_number(next_x)} {_number(next_y)}")
        x, y = next_x, next_y
    return " ".join(parts)


def _box(box: _Box) -> Iterator[str]:
    yield f'  <g class="{"added" if box.node["origin"] else "built-in"}">'
    yield f"    <title>{escape(box.node['plugin'])}</title>"
    yield (
        f'    <rect x="{_number(box.left)}" y="{_number(box.top)}" width="{_number(box.width)}" '
        f'height="{_number(box.height)}" rx="5"/>'
    )
    for number, text in enumerate(captions(box.node)):
        kind = ' class="name"' if number == 0 else ""
        y = box.top + _PADDING / 2 + (number + 0.72) * _LINE
        yield f'    <text{kind} x="{_number(box.middle)}" y="{_number(y)}">{escape(text)}</text>'
    yield "  </g>"


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
