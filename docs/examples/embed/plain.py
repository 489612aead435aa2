"""A program that is not async."""

from __future__ import annotations

from typing import Any

from base04.blocking import AppManager


def main() -> dict[str, Any]:
    """Use managers and run an action."""
    with AppManager("base04.yaml") as app:
        redis = app.get_redis_manager()
        redis.set("greeting", {"text": "Hello"}, ttl=60)
        visits = app.run_action("notes.visits")
        return {"greeting": redis.get("greeting"), "visits": visits}


if __name__ == "__main__":
    main()
