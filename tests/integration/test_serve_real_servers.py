"""`base04 serve` with everything on real servers, as the page about them says: the sample actions answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from base04.testing.servers.postgres import PostgresServer
from base04.testing.servers.redis import RedisServer
from base04.testing.servers.vault import VaultServer
from mongo_kit import mongo, mongo_database
from postgres_kit import postgres, postgres_url
from serve_kit import Server, install, run_base04

Serve = Callable[..., Server]
CANARY = "canary-served-4c1e"
GREETINGS = Path(__file__).parents[2] / "sample_plugins" / "greetings" / "src" / "base04_greetings"
__all__ = ["mongo", "mongo_database", "postgres", "postgres_url"]

REPORTS = {
    "reports/actions.yaml": """
        pack: reports
        version: 1.0.0
        actions:
          kept:
            summary: Keep a line and count all lines
            handler: reports.handlers:kept
            access: public
            parameters: {line: {type: string}}
            required: [line]
        """,
    "reports/__init__.py": "",
    "reports/handlers.py": """
        from typing import Annotated

        from base04_hookspecs import Use
        from base04_hookspecs.database import Column, DatabaseManager, TableSchema

        LINES = TableSchema("lines", (Column("id", "text"),), primary_key=("id",))


        async def kept(line: str, reports: Annotated[DatabaseManager, Use("reports")]) -> dict[str, object]:
            await reports.ensure_table(LINES)
            await reports.execute_transaction([{"type": "insert", "table": "lines", "data": {"id": line}}])
            return {"count": await reports.count("lines")}
        """,
}


@pytest.fixture
def vault() -> Iterator[VaultServer]:
    with VaultServer() as server:
        yield server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    with RedisServer(tmp_path / "redis", password=CANARY) as server:
        yield server


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """The samples, as pip installs them."""
    folder = tmp_path / "site"
    sample = {f"base04_greetings/{file.name}": file.read_text() for file in GREETINGS.iterdir() if file.is_file()}
    install(folder, "base04-greetings", actions={"greetings": "base04_greetings"}, files=sample)
    install(folder, "reports", actions={"reports": "reports"}, files=REPORTS)
    return folder


def settings(vault: VaultServer, redis: RedisServer, **managers: Any) -> str:
    role_id, secret_id = vault.add_approle()
    approle = {"role_id": role_id, "secret_id": secret_id}
    vault.put("app/redis", {"password": CANARY})
    given = {
        "vault": {"provider": "hashicorp", "hashicorp": {"address": vault.address, "approle": approle}},
        "redis": {"provider": "server", "server": {"url": redis.url, "password": "${secret:app/redis#password}"}},
        **managers,
    }
    return json.dumps({"managers": given})


def greeting(server: Server) -> Any:
    with server.client() as client:
        return client.post("/actions/greetings.greet", json={"name": "Ada", "times": 3}).json()


def test_sample_actions_on_redis_postgresql_and_a_vault_beside_a_mongodb(
    serve: Serve,
    site: Path,
    vault: VaultServer,
    redis: RedisServer,
    postgres: PostgresServer,
    postgres_url: str,
    mongo_database: tuple[str, str],
    tmp_path: Path,
) -> None:
    vault.put("app/database", {"url": postgres_url})
    address, name = mongo_database
    database = {
        "provider": "postgresql",
        "postgresql": {"url": "${secret:app/database#url}"},
        "instances": {"reports": {"provider": "mongodb", "mongodb": {"url": address, "database": name}}},
    }
    server = serve(tmp_path / "host", settings=settings(vault, redis, database=database), site=site)
    assert greeting(server) == {"message": "Hello, Ada! Hello, Ada! Hello, Ada!"}
    with server.admin() as admin:
        assert admin.post("/actions/reports.kept", json={"line": "first"}).json() == {"count": 1}
        tokens = admin.post("/auth/token").json()
        bearer = {"authorization": f"Bearer {tokens['access_token']}"}
        managers = admin.get("/managers").json()
    with server.client(**bearer) as client:
        assert client.get("/health").json()["status"] == "healthy"
    assert CANARY not in json.dumps(managers)
    shown = run_base04("managers", "--json", cwd=server.folder, site=site)
    assert CANARY not in shown.stdout + shown.stderr + server.stderr.text
    assert server.stop() == 0


def test_sample_actions_where_the_database_is_a_mongodb(
    serve: Serve, site: Path, vault: VaultServer, redis: RedisServer, mongo_database: tuple[str, str], tmp_path: Path
) -> None:
    address, name = mongo_database
    chosen = {"url": address, "database": name, "single_document_atomicity": True}
    database = {"provider": "mongodb", "mongodb": chosen}
    server = serve(tmp_path / "host", settings=settings(vault, redis, database=database), site=site)
    assert greeting(server) == {"message": "Hello, Ada! Hello, Ada! Hello, Ada!"}
    with server.admin() as admin:
        key = admin.post("/api-keys", json={"user_id": "ada", "permissions": ["greetings.forget"]}).json()["api_key"]
        state = {"type": "user", "data": {"visits": 1}}
        assert admin.put("/state/user_ada", json=state).status_code == 201
        assert admin.get("/state/user_ada/history").json()["history"][0]["transition"] == "create"
    with server.client(key) as ada:
        assert ada.post("/actions/greetings.forget", json={"name": "Ada"}).status_code == 200
        assert ada.get("/managers").status_code == 403
    assert server.stop() == 0
