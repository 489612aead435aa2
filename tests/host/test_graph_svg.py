"""The picture of the graph, and the graph in other notations."""

from __future__ import annotations

from xml.etree import ElementTree

from base04.graph import Graph
from base04.graph.description import GraphEdge, GraphNode
from base04.graph.notations import dot, mermaid
from base04.graph.svg import svg

SVG = "{http://www.w3.org/2000/svg}"


def node(name: str, origin: str = "") -> GraphNode:
    return {"manager": name, "provider": f"{name}-provider", "plugin": f"{name}-plugin", "origin": origin}


def edge(start: str, end: str, *, optional: bool = False) -> GraphEdge:
    return {"from": start, "to": end, "through": "given", "optional": optional}


GRAPH: Graph = {
    "nodes": [node("database"), node('shop "<&>"', "acme-shop 1.0"), node("jwt"), node("alone"), node("far[away]")],
    "edges": [edge('shop "<&>"', "database"), edge('shop "<&>"', "jwt", optional=True), edge("jwt", "database")],
}


def boxes(drawn: str) -> dict[str, tuple[float, float, float, float]]:
    """Return left, top, right and bottom of each box by what is written in its first line."""
    found = {}
    for group in ElementTree.fromstring(drawn).iter(f"{SVG}g"):
        rect, text = group.find(f"{SVG}rect"), group.find(f"{SVG}text")
        assert rect is not None
        assert text is not None
        left, top, width, height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
        found[text.text or ""] = (left, top, left + width, top + height)
    return found


def test_every_manager_has_a_box_within_the_picture() -> None:
    drawn = svg(GRAPH)
    size = ElementTree.fromstring(drawn).attrib
    found = boxes(drawn)
    assert found.keys() == {item["manager"] for item in GRAPH["nodes"]}
    for left, top, right, bottom in found.values():
        assert 0 <= left < right <= float(size["width"])
        assert 0 <= top < bottom <= float(size["height"])


def test_boxes_do_not_overlap() -> None:
    many: Graph = {
        "nodes": [node(f"manager_with_a_long_name_{number}") for number in range(40)],
        "edges": [edge(f"manager_with_a_long_name_{n}", f"manager_with_a_long_name_{n % 7}") for n in range(7, 20)],
    }
    places = [*boxes(svg(many)).values()]
    for index, (left, top, right, bottom) in enumerate(places):
        for other_left, other_top, other_right, other_bottom in places[:index]:
            apart = right <= other_left or other_right <= left or bottom <= other_top or other_bottom <= top
            assert apart


def test_who_needs_something_is_above_it() -> None:
    found = boxes(svg(GRAPH))
    for item in GRAPH["edges"]:
        assert found[item["from"]][3] < found[item["to"]][1]
    assert found["alone"][1] > max(found[name][3] for name in ("database", "jwt"))


def test_every_edge_is_a_line_from_box_to_box_and_says_what_it_is() -> None:
    drawn = svg(GRAPH)
    found, lines = boxes(drawn), {}
    for path in ElementTree.fromstring(drawn).iter(f"{SVG}path"):
        title = path.find(f"{SVG}title")
        if title is not None:
            lines[title.text] = path
    assert lines.keys() == {f"{item['from']} needs {item['to']}: given" for item in GRAPH["edges"]}
    for item in GRAPH["edges"]:
        path = lines[f"{item['from']} needs {item['to']}: given"]
        assert ("class" in path.attrib) == item["optional"]
        numbers = [float(word) for word in path.attrib["d"].split() if word not in ("M", "C")]
        for (x, y), (left, top, right, bottom), edge_of_box in (
            ((numbers[0], numbers[1]), found[item["from"]], 3),
            ((numbers[-2], numbers[-1]), found[item["to"]], 1),
        ):
            assert left < x < right
            assert y == (left, top, right, bottom)[edge_of_box]


def test_long_edge_passes_beside_the_boxes_between() -> None:
    found = boxes(svg(GRAPH))
    path = next(
        item
        for item in ElementTree.fromstring(svg(GRAPH)).iter(f"{SVG}path")
        if "needs database" in "".join(item.itertext()) and "shop" in "".join(item.itertext())
    )
    numbers = [float(word) for word in path.attrib["d"].split() if word not in ("M", "C")]
    left, top, right, bottom = found["jwt"]
    for x, y in zip(numbers[::2], numbers[1::2], strict=True):
        assert not (left <= x <= right and top <= y <= bottom)


def test_third_parties_have_a_colour_and_their_distribution() -> None:
    groups = {
        "".join(group.itertext()): group.attrib["class"] for group in ElementTree.fromstring(svg(GRAPH)).iter(f"{SVG}g")
    }
    assert [text for text, kind in groups.items() if kind == "added"] == [
        text for text in groups if "acme-shop 1.0" in text
    ]


def test_picture_says_in_words_what_it_shows() -> None:
    title = ElementTree.fromstring(svg(GRAPH)).find(f"{SVG}title")
    assert title is not None
    assert title.text == '5 managers: shop "<&>" needs database, jwt; jwt needs database.'
    empty = ElementTree.fromstring(svg({"nodes": [], "edges": []})).find(f"{SVG}title")
    assert empty is not None
    assert empty.text == "0 managers: none needs another."


def test_mermaid_and_dot_name_every_manager_and_edge() -> None:
    assert mermaid(GRAPH).splitlines()[0] == "flowchart TD"
    assert '    m_far_away_["far[away]<br/>far[away]-provider"]' in mermaid(GRAPH)
    assert "#quot;<&>#quot;" in mermaid(GRAPH)
    assert "    m_jwt --> m_database\n" in mermaid(GRAPH)
    assert "    m_shop______ -.-> m_jwt\n" in mermaid(GRAPH)
    assert '    "jwt" -> "database";\n' in dot(GRAPH)
    assert '    "shop \\"<&>\\"" -> "jwt" [style=dashed];\n' in dot(GRAPH)
    assert 'label="shop \\"<&>\\"\\nshop \\"<&>\\"-provider\\nacme-shop 1.0"' in dot(GRAPH)


def test_names_that_differ_by_signs_alone_stay_apart_in_mermaid() -> None:
    drawn = mermaid({"nodes": [node("a-b"), node("a_b")], "edges": [edge("a-b", "a_b")]})
    assert "    m_a_b --> m_a_b_\n" in drawn
