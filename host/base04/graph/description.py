"""The dependencies of a plan, as nodes and edges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

from base04.resolution import VAULT, Plan

SECRETS = "${secret:...}"
"""What leads from a manager to the vault where no parameter does: secrets in its settings."""


class GraphNode(TypedDict):
    """One manager. ``origin`` is the distribution of a third party that it comes from, empty for built-in ones."""

    manager: str
    provider: str
    plugin: str
    origin: str


GraphEdge = TypedDict("GraphEdge", {"from": str, "to": str, "through": str, "optional": bool})
"""Goes from who needs to what is needed, ``through`` a parameter of its constructor."""


class Graph(TypedDict):
    """What depends on what; the managers in the order in which they start."""

    nodes: list[GraphNode]
    edges: list[GraphEdge]


def describe_graph(plan: Plan) -> Graph:
    """Describe the dependencies as nodes and edges."""
    return {"nodes": [*_nodes(plan)], "edges": [*_edges(plan)]}


def _nodes(plan: Plan) -> Iterator[GraphNode]:
    for key, node in plan.nodes.items():
        candidate = node.choice.candidate
        yield {
            "manager": str(key),
            "provider": candidate.provider.name,
            "plugin": candidate.plugin.name,
            "origin": "" if candidate.built_in else candidate.plugin.origin,
        }


def _edges(plan: Plan) -> Iterator[GraphEdge]:
    for key, node in plan.nodes.items():
        given = {dependency.key for dependency in node.constructor.dependencies}
        for dependency in node.constructor.dependencies:
            if dependency.key in plan.nodes:
                through, optional = dependency.parameter, dependency.optional
                yield {"from": str(key), "to": str(dependency.key), "through": through, "optional": optional}
        if node.secrets and VAULT not in given and VAULT in plan.nodes:
            yield {"from": str(key), "to": str(VAULT), "through": SECRETS, "optional": False}
