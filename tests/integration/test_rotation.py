"""Passwords of real servers that are exchanged in the vault while the host runs."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from base04.app_manager import AppManager
from base04.testing.servers.postgres import PostgresServer
from base04.testing.servers.redis import RedisServer
from base04.testing.servers.vault import VaultServer
from base04_hookspecs.errors import Base04Error
from host_kit import until
from postgres_kit import postgres, postgres_url

FIRST, SECOND = "canary-first-5d1c", "canary-second-77ae"
__all__ = ["postgres", "postgres_url"]


@pytest.fixture
def vault() -> Iterator[VaultServer]:
    with VaultServer() as server:
        yield server


def settings(tmp_path: Path, vault: VaultServer, **managers: Any) -> dict[str, Any]:
    role_id, secret_id = vault.add_approle()
    hashicorp = {
        "address": vault.address,
        "approle": {"role_id": role_id, "secret_id": secret_id},
        "watch_interval": "50ms",
    }
    return {
        "data_dir": str(tmp_path / "data"),
        "managers": {"vault": {"provider": "hashicorp", "hashicorp": hashicorp}, **managers},
    }


async def test_redis_password_is_exchanged_without_a_restart(vault: VaultServer, tmp_path: Path) -> None:
    vault.put("app/redis", {"password": FIRST})
    with RedisServer(tmp_path / "redis", password=FIRST, persistent=True) as server:
        redis = {"provider": "server", "server": {"url": server.url, "password": "${secret:app/redis#password}"}}
        async with AppManager(settings(tmp_path, vault, redis=redis), safe_mode=True, only=["redis", "jwt"]) as app:
            before, tokens = app.get_redis_manager(), app.jwt_manager
            await before.set("kept", 1)
            server.ask("CONFIG", "SET", "requirepass", SECOND)
            server.password = SECOND
            vault.put("app/redis", {"password": SECOND})
            await until(lambda: app.get_redis_manager() is not before)
            server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")  # whoever came with the old password
            assert await app.get_redis_manager().get("kept") == 1
            assert app.jwt_manager is not tokens, "who holds it is renewed too"
            assert await app.jwt_manager.validate_token(await app.jwt_manager.create_access_token("123"))


async def test_vault_that_is_ahead_of_its_database_does_no_harm(
    vault: VaultServer, postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    role = f"rotated_{uuid.uuid4().hex[:12]}"
    name = postgres_url.rpartition("/")[2]
    postgres.sql(f"CREATE ROLE {role} LOGIN SUPERUSER PASSWORD '{FIRST}'")
    try:
        vault.put("app/database", {"url": postgres.url_of(name, role, FIRST)})
        database = {"provider": "postgresql", "postgresql": {"url": "${secret:app/database#url}"}}
        given = settings(tmp_path, vault, database={**database, "start_timeout": "2s"})
        async with AppManager(given, safe_mode=True, only=["database"]) as app:
            before = app.get_manager("database")
            with capture_logs() as entries:
                vault.put("app/database", {"url": postgres.url_of(name, role, SECOND)})
                await until(lambda: any("not renewed" in entry["event"] for entry in entries))
            assert await app.check_database_connection() is True
            postgres.sql(f"ALTER ROLE {role} PASSWORD '{SECOND}'")
            await until(lambda: app.newest is not None and app.newest.find("database") is not before)
            assert await app.get_db_manager().execute_query("SELECT 1 AS one") == [{"one": 1}]
    finally:
        postgres.sql(f"REASSIGN OWNED BY {role} TO CURRENT_USER", name)
        postgres.sql(f"DROP ROLE {role}")


async def test_secrets_stay_out_of_what_a_host_tells(vault: VaultServer, tmp_path: Path) -> None:
    vault.put("app/redis", {"password": FIRST})
    with RedisServer(tmp_path / "redis", password=SECOND) as server:
        redis = {"provider": "server", "server": {"url": server.url, "password": "${secret:app/redis#password}"}}
        with pytest.raises(Base04Error) as caught:
            async with AppManager(settings(tmp_path, vault, redis=redis), safe_mode=True, only=["redis"]):
                pass
        vault.put("app/redis", {"password": SECOND})
        async with AppManager(settings(tmp_path, vault, redis=redis), safe_mode=True, only=["redis"]) as app:
            health = await app.health_check()
            info = await app.vault_manager.get_connection_info()
            shown = [caught.value, health, info, app.get_redis_manager(), app.plan, app.generation.running]
            await asyncio.sleep(0)
    assert FIRST not in repr(shown)
    assert SECOND not in repr(shown)
