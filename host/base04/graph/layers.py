"""Layers of a graph without circles, in an order that crosses few edges.

The method of Sugiyama, Tagawa and Toda, "Methods for Visual Understanding of Hierarchical System Structures" (1981):
each vertex lies above all that it points to, edges that pass a layer have a point in it, and layers are sorted by the
mean position of what their vertices are joined to, back and forth.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise

_SWEEPS = 24


@dataclass(frozen=True, slots=True)
class Vertex:
    """A thing of the graph, or with ``passing`` the point of the edge ``name`` -> ``passing`` in a layer."""

    name: str
    passing: str | None = None
    layer: int = 0


Edge = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Layers:
    """The layers from the top down, and for each edge the vertices that it goes through."""

    rows: tuple[tuple[Vertex, ...], ...]
    paths: dict[Edge, tuple[Vertex, ...]]


def arrange(names: Iterable[str], edges: Iterable[Edge]) -> Layers:
    """Put the vertices into layers, in a good order; names that no edge has are left out."""
    edges = sorted({edge for edge in edges if edge[0] != edge[1]})
    joined = {name for edge in edges for name in edge}
    heights = _heights([name for name in names if name in joined], edges)
    top = max(heights.values(), default=0)
    paths = {edge: _path(edge, heights, top) for edge in edges}
    rows: list[list[Vertex]] = [[] for _ in range(top + 1)]
    for name, height in heights.items():
        rows[top - height].append(Vertex(name, None, top - height))
    for path in paths.values():
        for vertex in path[1:-1]:
            rows[vertex.layer].append(vertex)
    links = [link for path in paths.values() for link in pairwise(path)]
    return Layers(tuple(map(tuple, _untangled(rows, links))) if edges else (), paths)


def _heights(names: list[str], edges: list[Edge]) -> dict[str, int]:
    """Return how many edges the longest way down from each has."""
    below: dict[str, list[str]] = defaultdict(list)
    for start, end in edges:
        below[start].append(end)
    heights: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in heights:
            heights[name] = 1 + max(map(height, below[name]), default=-1)
        return heights[name]

    return {name: height(name) for name in names}


def _path(edge: Edge, heights: Mapping[str, int], top: int) -> tuple[Vertex, ...]:
    start, end = edge
    first, last = top - heights[start], top - heights[end]
    between = [Vertex(start, end, layer) for layer in range(first + 1, last)]
    return (Vertex(start, None, first), *between, Vertex(end, None, last))


def _untangled(rows: list[list[Vertex]], links: list[tuple[Vertex, Vertex]]) -> list[list[Vertex]]:
    """Return the rows in the order with the fewest crossings that was seen."""
    up: dict[Vertex, list[Vertex]] = defaultdict(list)
    down: dict[Vertex, list[Vertex]] = defaultdict(list)
    for upper, lower in links:
        down[upper].append(lower)
        up[lower].append(upper)
    best, fewest = [list(row) for row in rows], crossings(rows, links)
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        neighbours = up if downwards else down
        order = range(1, len(rows)) if downwards else range(len(rows) - 2, -1, -1)
        for index in order:
            places = {vertex: place for row in rows for place, vertex in enumerate(row)}
            rows[index] = _sorted(rows[index], neighbours, places)
        found = crossings(rows, links)
        if found < fewest:
            best, fewest = [list(row) for row in rows], found
    return best


def _sorted(row: list[Vertex], neighbours: Mapping[Vertex, list[Vertex]], places: Mapping[Vertex, int]) -> list[Vertex]:
    """Sort a row by the mean place of its vertices' neighbours; who has none stays where it is."""

    def mean(vertex: Vertex) -> float:
        near = neighbours.get(vertex)
        return sum(places[other] for other in near) / len(near) if near else places[vertex]

    return sorted(row, key=mean)


def crossings(rows: Iterable[Iterable[Vertex]], links: Iterable[tuple[Vertex, Vertex]]) -> int:
    """Return how many pairs of edges cross."""
    places = {vertex: place for row in rows for place, vertex in enumerate(row)}
    between: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for upper, lower in links:
        between[upper.layer].append((places[upper], places[lower]))
    return sum(
        1
        for pairs in between.values()
        for index, (start, end) in enumerate(pairs)
        for other_start, other_end in pairs[:index]
        if (start - other_start) * (end - other_end) < 0
    )
