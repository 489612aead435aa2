"""What depends on what: as data, as Mermaid and DOT for other programs, and drawn as SVG by this one."""

from __future__ import annotations

from base04.graph.description import Graph, GraphEdge, GraphNode, describe_graph

__all__ = ["Graph", "GraphEdge", "GraphNode", "describe_graph"]
