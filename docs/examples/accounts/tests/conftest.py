from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def action_folders() -> list[Path]:
    return [Path(__file__).parents[1] / "actions"]
