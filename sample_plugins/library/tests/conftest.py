from __future__ import annotations

pytest_plugins = ["base04.testing.actions"]
