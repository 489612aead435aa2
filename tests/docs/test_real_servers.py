"""The settings of the page about real servers are accepted, and what it shows is true."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from base04 import AppManager
from base04.provider_settings import provider_settings
from base04.settings_source import put_in_secrets
from base04_builtin.database.mongodb.settings import MongoSettings
from base04_builtin.database.postgresql.settings import PostgresSettings
from base04_builtin.database.sqlite.settings import SqliteSettings
from base04_builtin.vault.hashicorp.settings import HashicorpVaultSettings
from base04_hookspecs.errors import InvalidInput
from docs_kit import DOCS, EXAMPLES
from mongo_kit import manager_of, mongo, mongo_database, mongo_settings

SERVERS = EXAMPLES / "servers"
__all__ = ["mongo", "mongo_database"]


@pytest.mark.parametrize("file", sorted(SERVERS.glob("*.yaml")), ids=lambda file: file.stem)
def test_settings_are_accepted(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAULT_ROLE_ID", "a-role")
    monkeypatch.setenv("BASE04_DATA_DIR", str(tmp_path))
    plan = AppManager(file, safe_mode=True).plan
    named = [node for node in plan.nodes.values() if node.choice.candidate.provider.extra]
    for node in named:
        secret = f"{node.choice.candidate.provider.name}://a-secret/"
        document = put_in_secrets(node.document, dict.fromkeys(node.secrets, secret))
        assert provider_settings(node, document, tmp_path) is not None
    assert named


def test_settings_name_the_servers_that_compose_starts() -> None:
    services = yaml.safe_load((EXAMPLES / "compose" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    settings = yaml.safe_load((SERVERS / "local.yaml").read_text(encoding="utf-8"))["managers"]
    redis = urlsplit(settings["redis"]["server"]["url"])
    postgres = urlsplit(settings["database"]["postgresql"]["url"])
    given = services["postgres"]["environment"]
    assert services["redis"]["ports"] == [f"{redis.netloc}:6379"]
    assert services["postgres"]["ports"] == [f"{postgres.hostname}:{postgres.port}:5432"]
    assert (postgres.username, postgres.password) == (given["POSTGRES_USER"], given["POSTGRES_PASSWORD"])
    assert postgres.path == f"/{given['POSTGRES_DB']}"


@pytest.mark.parametrize(
    ("name", "model"),
    [(name, HashicorpVaultSettings) for name in ("token", "token_file", "approle", "kubernetes", "fallback")]
    + [(name, HashicorpVaultSettings) for name in ("plain_http", "watch_interval", "cache_ttl", "mount", "ca")]
    + [(name, PostgresSettings) for name in ("read_only_url", "admin_url", "pool_size", "statement_timeout", "retries")]
    + [(name, SqliteSettings) for name in ("synchronous", "busy_timeout")]
    + [(name, MongoSettings) for name in ("single_document_atomicity", "read_only_url", "password", "ca")],
)
def test_settings_that_the_page_names_are_there(name: str, model: Any) -> None:
    assert name in model.model_fields
    assert name in (DOCS / "use-real-servers.md").read_text(encoding="utf-8")


async def test_parameters_keep_operators_out(mongo_database: tuple[str, str]) -> None:
    spec = importlib.util.spec_from_file_location("docs_log_in", SERVERS / "log_in.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    async with manager_of(mongo_settings(*mongo_database)) as database:
        await database.execute_query({"insert": "users", "documents": [{"name": "ada", "pin": "1815"}]})
        assert await module.log_in(database, "ada", "1815") is True
        assert await module.log_in(database, "ada", "0000") is False
        with pytest.raises(InvalidInput):
            await module.log_in(database, "ada", {"$ne": None})
