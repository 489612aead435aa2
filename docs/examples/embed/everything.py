"""The whole host in a program: actions, secrets, tokens."""

from __future__ import annotations

from typing import Any

from base04 import AppManager
from base04_hookspecs import Principal


async def main() -> dict[str, Any]:
    """Use some managers, and run an action."""
    app = AppManager("base04.yaml")
    await app.start()
    try:
        await app.vault_manager.set_secret_value("app/mail", "password", "not so secret")
        token = await app.jwt_manager.create_access_token("ada", {"permissions": ["notes.*"]})
        payload = await app.jwt_manager.validate_token(token)

        ada = Principal(payload["user_id"], tuple(payload["permissions"]), method="token")
        kept = await app.run_action("notes.add", {"text": "Buy milk"}, principal=ada)

        database = app.get_db_manager("read_only")
        rows = await database.execute_query("SELECT text FROM notes WHERE id = :id", {"id": kept["id"]})
        health = await app.health_check()
        return {"rows": rows, "health": health["status"]}
    finally:
        await app.stop()
