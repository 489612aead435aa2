"""Another provider of the role `hooks`: it keeps the last events."""

from __future__ import annotations

from collections import deque
from typing import Any

from base04_builtin.hooks.inprocess import InProcessHooksManager


class KeptHooksManager(InProcessHooksManager):
    """Calls back as the built-in one does, and keeps the names of the last hundred events."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: deque[str] = deque(maxlen=100)

    async def trigger_hook(self, name: str, /, **data: Any) -> list[Any]:
        """Keep the name, and call back."""
        self.kept.append(name)
        return await super().trigger_hook(name, **data)
