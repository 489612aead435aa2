"""Clients of a Base04 host, for Python programs."""

from __future__ import annotations

from base04.client.actions import ActionsClient, AsyncActionsClient
from base04.client.problems import UnexpectedAnswer

__all__ = ["ActionsClient", "AsyncActionsClient", "UnexpectedAnswer"]
