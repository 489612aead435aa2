"""Where the vertices of layers lie: near what they are joined to, in their order, and never over each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from base04.graph.layers import Layers, Vertex

_ROUNDS = 12
_STRAIGHT = 4.0
"""How much more a point of a passing edge insists on its place than a box: straight lines are easy to follow."""


def place(layers: Layers, width: Callable[[Vertex], float], gap: float) -> dict[Vertex, float]:
    """Return the middle of each vertex; the leftmost edge of all lies at 0.

    ``width`` tells how much room each needs, ``gap`` is what is left between two.
    """
    if not layers.rows:
        return {}
    near: dict[Vertex, list[Vertex]] = defaultdict(list)
    for path in layers.paths.values():
        for upper, lower in pairwise(path):
            near[upper].append(lower)
            near[lower].append(upper)
    middles: dict[Vertex, float] = {}
    for row in layers.rows:
        middles.update(_set(row, dict.fromkeys(row, 0.0), width, gap))
    for turn in range(_ROUNDS):
        for row in layers.rows if turn % 2 == 0 else reversed(layers.rows):
            wanted = {vertex: sum(middles[other] for other in near[vertex]) / len(near[vertex]) for vertex in row}
            middles.update(_set(row, wanted, width, gap))
    left = min(middle - width(vertex) / 2 for vertex, middle in middles.items())
    return {vertex: middle - left for vertex, middle in middles.items()}


def _set(
    row: Sequence[Vertex], wanted: Mapping[Vertex, float], width: Callable[[Vertex], float], gap: float
) -> dict[Vertex, float]:
    """Put a row as near as possible to where its vertices want to be, in the sense of least squares.

    With the distances from the left taken off, this is isotonic regression: neighbours that would change places are
    pooled at their mean (Ayer et al., 1955).
    """
    offsets, reach = [], 0.0
    for before, vertex in zip((None, *row), row, strict=False):
        reach += (width(before) + width(vertex)) / 2 + gap if before is not None else 0.0
        offsets.append(reach)
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many
    for vertex, offset in zip(row, offsets, strict=True):
        mean, weight, count = wanted[vertex] - offset, _STRAIGHT if vertex.passing else 1.0, 1
        while pools and pools[-1][0] > mean:
            other, more, several = pools.pop()
            mean = (mean * weight + other * more) / (weight + more)
            weight, count = weight + more, count + several
        pools.append((mean, weight, count))
    means = [mean for mean, _, count in pools for _ in range(count)]
    return {vertex: mean + offset for vertex, mean, offset in zip(row, means, offsets, strict=True)}
