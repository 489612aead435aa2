"""Layers: every edge leads down, nothing lies over anything else, and few edges cross."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base04.graph.layers import Edge, Vertex, arrange, crossings
from base04.graph.placement import place

NAMES = [f"m{number}" for number in range(12)]


@st.composite
def acyclic(draw: st.DrawFn) -> list[Edge]:
    """Draw edges that go from later names to earlier ones, so that there is no circle."""
    pairs = st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda pair: pair[0] > pair[1])
    return [(NAMES[start], NAMES[end]) for start, end in draw(st.lists(pairs, max_size=30))]


def width(vertex: Vertex) -> float:
    return 10.0 if vertex.passing else 40.0 + 7 * int(vertex.name[1:])


@given(acyclic())
def test_edges_lead_down_through_every_layer(edges: list[Edge]) -> None:
    layers = arrange(NAMES, edges)
    assert layers.paths.keys() == {*edges}
    there = [vertex for row in layers.rows for vertex in row]
    assert len(there) == len({*there})
    for (start, end), path in layers.paths.items():
        assert (path[0].name, path[-1].name) == (start, end)
        assert all(lower.layer == upper.layer + 1 for upper, lower in pairwise(path))
        assert all(vertex in layers.rows[vertex.layer] for vertex in path)


@given(acyclic())
def test_rows_keep_their_order_and_their_gaps(edges: list[Edge]) -> None:
    layers = arrange(NAMES, edges)
    middles = place(layers, width, 20.0)
    assert middles.keys() == {vertex for row in layers.rows for vertex in row}
    for row in layers.rows:
        for left, right in pairwise(row):
            assert middles[right] - middles[left] >= (width(left) + width(right)) / 2 + 20.0 - 1e-6
    if middles:
        assert min(middle - width(vertex) / 2 for vertex, middle in middles.items()) == pytest.approx(0.0)


def test_names_without_edges_are_left_out() -> None:
    assert arrange(["alone"], []).rows == ()
    assert [vertex.name for row in arrange(NAMES, [("m1", "m0")]).rows for vertex in row] == ["m1", "m0"]


def test_crossings_that_can_be_avoided_are_avoided() -> None:
    edges = [("m3", "m2"), ("m4", "m1"), ("m5", "m0")]
    layers = arrange(NAMES, edges)
    links = [link for path in layers.paths.values() for link in pairwise(path)]
    assert crossings(layers.rows, links) == 0
    upper, lower = [Vertex(f"m{n}", None, 0) for n in (3, 4)], [Vertex(f"m{n}", None, 1) for n in (1, 2)]
    assert crossings([upper, lower], [(upper[0], lower[1]), (upper[1], lower[0])]) == 1


def test_chain_is_a_straight_line() -> None:
    layers = arrange(NAMES, [("m2", "m1"), ("m1", "m0"), ("m2", "m0")])
    middles = place(layers, lambda vertex: 10.0 if vertex.passing else 40.0, 20.0)
    passing = [vertex for vertex in middles if vertex.passing]
    assert [vertex.layer for vertex in passing] == [1]
    assert len({vertex.name for row in layers.rows for vertex in row if not vertex.passing}) == 3


def test_equal_graphs_are_arranged_alike() -> None:
    edges = [("m9", "m1"), ("m9", "m2"), ("m8", "m0"), ("m8", "m2"), ("m7", "m1"), ("m9", "m0")]
    assert arrange(NAMES, edges) == arrange(NAMES, list(reversed(edges)))
