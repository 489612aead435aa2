"""The examples of the pages, run."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import pytest
import structlog.testing
import yaml

from base04 import AppManager
from base04.records.audit_table import AuditQuery
from base04.settings import load_settings
from base04_hookspecs import ANONYMOUS, Principal, host_hooks
from base04_hookspecs.context import RequestContext
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.errors import AuthenticationError, InvalidInput, PermissionDenied, RateLimited
from base04_hookspecs.host_hooks import ActionCall, Credentials
from docs_kit import DOCS, EXAMPLES, SAMPLES
from otlp_kit import Collector

NOBODY_ELSE = {"autoload": False}
"""Keeps out whatever else is installed where the tests run."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a fresh folder, the present one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BASE04_PLUGINS__AUTOLOAD", "false")
    return tmp_path


@pytest.fixture
def pack(folder: Path) -> Path:
    """Return the folder with the pack of notes in it."""
    shutil.copytree(EXAMPLES / "pack", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def example(*path: str) -> ModuleType:
    """Run a file of the examples, as a module of its own."""
    file = EXAMPLES.joinpath(*path)
    spec = importlib.util.spec_from_file_location("example_" + file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def client(app: Any) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://test")


def examples(suffix: str) -> Iterator[Path]:
    yield from sorted(EXAMPLES.rglob(f"*{suffix}"))


# Settings


def test_full_settings_are_the_defaults(folder: Path) -> None:
    written = load_settings(EXAMPLES / "run" / "base04.yaml", environ={})
    defaults = load_settings({}, environ={})
    for section in ("data_dir", "server", "plugins", "log"):
        assert getattr(written, section) == getattr(defaults, section)
    limiter, usual = written.managers["rate_limiter"], defaults.role("rate_limiter")
    assert (limiter.required, limiter.start_timeout, limiter.stop_timeout) == (
        usual.required,
        usual.start_timeout,
        usual.stop_timeout,
    )


async def test_host_starts_with_full_settings(folder: Path) -> None:
    settings = yaml.safe_load((EXAMPLES / "run" / "base04.yaml").read_text(encoding="utf-8"))
    async with AppManager({**settings, "plugins": NOBODY_ELSE}) as app:
        reports = app.get_manager("database", "reports")
        assert isinstance(reports, DatabaseManager)
        assert (folder / "base04-data" / "reports.sqlite3").exists()


def test_references_are_put_in(folder: Path) -> None:
    (folder / "issuer.txt").write_text("acme\n")
    settings = load_settings(EXAMPLES / "run" / "references.yaml", environ={"APP_HOME": "/srv/app"})
    assert settings.data_dir == Path("/srv/app/data")
    assert settings.document.values["managers"]["jwt"] == {"issuer": "acme"}


SETTINGS_FILES = [path for path in examples(".yaml") if not {"actions", "compose"} & set(path.parts)]


@pytest.mark.parametrize("file", SETTINGS_FILES, ids=str)
def test_every_settings_file_can_be_read(file: Path, folder: Path) -> None:
    (folder / "issuer.txt").write_text("acme")
    load_settings(file, environ={"APP_HOME": "/srv/app", "VAULT_ROLE_ID": "base04", "COLLECTOR_KEY": "Bearer b04"})


async def test_environment_takes_the_place_of_settings(folder: Path) -> None:
    environ = {"BASE04_SERVER__PORT": "8001", "BASE04_MANAGERS__RATE_LIMITER__LIMITS": "{ip: 100/minute}"}
    settings = load_settings(EXAMPLES / "run" / "base04.yaml", environ=environ)
    assert settings.server.port == 8001
    assert settings.document.values["managers"]["rate_limiter"]["limits"] == {"ip": "100/minute"}


async def test_order_is_shipped_once(folder: Path) -> None:
    told = await example("state", "orders.py").main()
    assert "version 2 and not the expected 1" in told["stale"]
    assert "'ship' from 'shipped'" in told["refused"]
    assert told["seen"] == ["update", "ship"]
    assert told["sent"].endswith("for order_7")


async def test_secrets_come_from_the_vault(folder: Path) -> None:
    """The settings of the mailer, with its password in another role's settings: ``issuer`` stands in for it."""
    written = yaml.safe_load((EXAMPLES / "hello_plugin" / "secret.yaml").read_text(encoding="utf-8"))
    reference = written["managers"]["mailer"]["smtp"]["password"]
    async with AppManager({"plugins": NOBODY_ELSE}, only=["vault"]) as app:
        await app.vault_manager.set_secret_value("mail/smtp", "password", "from the vault")
    async with AppManager({"plugins": NOBODY_ELSE, "managers": {"jwt": {"issuer": reference}}}, only=["jwt"]) as app:
        token = await app.jwt_manager.create_access_token("ada")
        assert (await app.jwt_manager.validate_token(token))["iss"] == "from the vault"


async def test_application_for_other_servers_serves(folder: Path) -> None:
    (folder / "base04.yaml").write_text("plugins: {autoload: false}\n")
    app = example("run", "server.py").app
    async with app.router.lifespan_context(app), client(app) as http:
        assert (await http.get("/health")).json() == {"status": "healthy"}


def test_settings_of_another_vault_fit_it() -> None:
    pytest.importorskip("hvac", reason="the provider needs its extra: pip install 'base04[vault]'")
    from base04_builtin.vault.hashicorp.settings import HashicorpVaultSettings

    written = yaml.safe_load((EXAMPLES / "swap" / "vault.yaml").read_text(encoding="utf-8"))
    settings = HashicorpVaultSettings.model_validate(written["managers"]["vault"]["hashicorp"])
    assert settings.approle is not None


async def test_limits_of_the_example_hold(folder: Path) -> None:
    from base04_builtin.rate_limiter.settings import GcraRateLimiterSettings

    written = yaml.safe_load((EXAMPLES / "limits" / "base04.yaml").read_text(encoding="utf-8"))
    limiter = written["managers"]["rate_limiter"]
    settings = GcraRateLimiterSettings.model_validate({"limits": limiter["limits"], **limiter["gcra"]})
    assert [(one.amount, one.period_s) for one in settings.parsed("user")] == [(100, 60), (2000, 86_400)]
    assert settings.parsed("api_key") == ()
    async with AppManager({**written, "plugins": NOBODY_ELSE}, only=["rate_limiter"]) as app:
        manager = app.rate_limiter_manager
        who = {"ip": "192.0.2.1", "user": "ada"}
        results = [await manager.check_rate_limit(["user"], identifiers=who) for _ in range(101)]
        assert results[-1]["allowed"] is True
        assert results[-1].get("shadow_exceeded") == ["user"]
        report = example("limits", "moderation.py").report
        assert await report(manager, "192.0.2.1", "noise") == {"remaining": 20, "banned_before": False}
        assert (await manager.check_rate_limit(["ip"], identifiers=who))["banned"] == ["ip"]


# The pack


async def test_notes_are_kept_and_found(pack: Path) -> None:
    writer = Principal("ada", ("notes.write",), method="token")
    async with AppManager() as app:
        assert await app.action_discovery_manager.get_faults() == []
        await app.run_action("notes.add", {"text": "Buy milk", "tag": "shopping"}, principal=writer)
        assert await app.run_action("notes.add_many", {"texts": ["one", "two"]}, principal=writer) == 2
        found = await app.run_action("notes.search", {"tag": "todo"}, principal=writer)
        assert [(note["text"], note["author"]) for note in found] == [("one", "ada"), ("two", "ada")]
        assert [await app.run_action("visits"), await app.run_action("visits")] == [1, 2]


async def test_notes_are_guarded(pack: Path) -> None:
    reader = Principal("bob", ("notes.read",), method="token")
    writer = Principal("ada", ("notes.*",), method="token")
    async with AppManager() as app:
        with pytest.raises(AuthenticationError):
            await app.run_action("notes.add", {"text": "x"}, principal=ANONYMOUS)
        with pytest.raises(PermissionDenied) as denied:
            await app.run_action("notes.add", {"text": "x"}, principal=reader)
        assert denied.value.missing == ("notes.write",)
        with pytest.raises(InvalidInput) as invalid:
            await app.run_action("notes.add", {"text": "", "tga": "todo"}, principal=writer)
        assert [fault.pointer for fault in invalid.value.faults] == ["/text", "/tga"]
        with pytest.raises(RateLimited) as limited:
            await add_without_end(app, writer)
        assert limited.value.exceeded == ("action",)


async def add_without_end(app: AppManager, writer: Principal) -> None:
    for _ in range(1000):
        await app.run_action("notes.add", {"text": "x"}, principal=writer)


# Plugins


async def test_first_plugin_serves_its_route(folder: Path) -> None:
    plugin = example("hello_plugin", "src", "acme_hello", "plugin.py")
    manager = AppManager({}, plugins=[("acme-hello", plugin)])
    async with manager, client(manager.serve) as http:
        assert (await http.get("/hello")).json() == {"message": "Hello!"}


async def test_every_hook_of_the_office_takes_part(pack: Path) -> None:
    office = example("office", "plugins", "office.py")
    ada = Principal("ada", ("notes.*",), method="token")
    manager = AppManager("base04.yaml", plugins=[("office", office)])
    async with manager, client(manager.serve) as http:
        (described,) = [item for item in manager.list_plugins() if item["name"] == "office"]
        hooks = {name for name, item in vars(host_hooks).items() if hasattr(item, "base04_spec")}
        assert {*described["contributes"]["hooks"]} == hooks - {"extra_providers"}
        answer = await http.get("/whoami")
        assert (answer.json(), answer.headers["x-served-by"]) == ({"user_id": None}, "office")
        assert (await http.post("/knock")).status_code == 401
        await manager.run_action("notes.add", {"text": "  Buy milk  "}, principal=ada)
        (note,) = await manager.run_action("notes.search", {"tag": "todo"}, principal=ada)
        assert note["text"] == "Buy milk"
        assert await manager.run_action("office.nameplate", {"name": "Ada"}) == "Ada, floor 3"
        assert await manager.services_manager.get_service("office") == {"floor": 3}
        events = {hook["name"]: hook for hook in await manager.hooks_manager.list_hooks()}
        assert events["action.executed"]["callbacks"] == [f"{office.__name__}.on_executed"]


async def test_badge_proves_who_is_calling(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    office = example("office", "plugins", "office.py")
    monkeypatch.setenv("OFFICE_BADGE", "x7Kq")
    manager = AppManager({}, plugins=[("office", office)])
    async with manager, client(manager.serve) as http:
        assert (await http.get("/whoami", headers={"x-badge": "x7Kq"})).json() == {"user_id": "office"}
        assert (await http.get("/whoami", headers={"x-badge": "other"})).status_code == 401
        assert (await http.post("/knock", headers={"x-badge": "x7Kq"})).status_code == 403
    assert await office.by_badge(Credentials({}, None)) is None


async def test_archive_is_closed_and_rooms_are_guarded(pack: Path) -> None:
    office = example("office", "plugins", "office.py")
    async with AppManager() as app:
        info = await app.action_discovery_manager.find_action("notes.search")
        assert info is not None
    call = ActionCall({**info, "pack": "archive"}, {}, RequestContext("r"))
    with pytest.raises(PermissionDenied):
        await office.tidy(call)
    assert office.staff_only(ANONYMOUS, "staff", "join") is False
    assert office.staff_only(Principal("ada", ("office.*",), method="token"), "staff", "emit") is True
    assert office.staff_only(ANONYMOUS, "news", "join") is None


async def test_office_hears_of_what_is_to_be_audited(folder: Path) -> None:
    office = example("office", "plugins", "office.py")
    manager = AppManager({}, plugins=[("office", office)])
    async with manager, client(manager.serve) as http:
        key = await manager.api_key_manager.generate_api_key("ada", ["api_keys.manage"])
        with structlog.testing.capture_logs() as logs:
            assert (await http.get("/managers")).status_code == 401
            assert (await http.get("/managers", headers={"x-api-key": key})).status_code == 403
            made = await http.post("/api-keys", json={"user_id": "bob"}, headers={"x-api-key": key})
            await http.delete(f"/api-keys/{made.json()['key_id']}", headers={"x-api-key": key})
            await manager.audit.query(AuditQuery())  # what was denied is told in the background
    heard = [(line["what"], line["outcome"], line["user_id"]) for line in logs if line["event"] == "audit"]
    assert sorted(heard, key=str) == [
        ("api_key.created", "success", "ada"),
        ("api_key.revoked", "success", "ada"),
        ("auth.denied", "denied", "ada"),
        ("auth.denied", "denied", None),
    ]
    page = (DOCS / "write-a-plugin.md").read_text(encoding="utf-8")
    assert all(f"`{event}`" in page for event, _, _ in heard)


async def test_handler_traces_what_it_does(folder: Path) -> None:
    shutil.copytree(EXAMPLES / "watch" / "actions", folder / "actions")
    with Collector() as collector:
        settings = {
            "telemetry": {"endpoint": collector.url},
            "managers": {"action_discovery": {"folders": ["actions"]}},
        }
        for _ in range(2):  # a tracer that was asked for once goes on
            async with AppManager(settings) as app:
                assert await app.run_action("letters.post", {"address": "Ada", "pages": 2}) == 1.0
    weighed = [span for span in collector.spans if span.name == "weigh"]
    assert [(span.scope, span.attributes) for span in weighed] == [("acme-letters", {"letters.pages": 2})] * 2
    handlers = {span.span_id: span for span in collector.spans if span.name == "handler letters.post"}
    assert all(handlers[span.parent_id].attributes["letters.grams"] == 10.0 for span in weighed)


async def test_named_instance_reaches_a_handler(folder: Path) -> None:
    written = yaml.safe_load((EXAMPLES / "swap" / "instances.yaml").read_text(encoding="utf-8"))
    (folder / "actions").mkdir()
    shutil.copy(EXAMPLES / "swap" / "reports.py", folder / "actions")
    (folder / "actions" / "reports.yaml").write_text(
        "pack: reports\nversion: 1.0.0\nactions:\n  count:\n    handler: .reports:count\n    access: public\n"
        "    parameters: {table: {type: string}}\n    required: [table]\n"
    )
    written["managers"]["action_discovery"] = {"folders": ["actions"]}
    async with AppManager(written) as app:
        reports = app.get_db_manager("read_write", "reports")
        await reports.execute_query("CREATE TABLE sales (id INTEGER PRIMARY KEY)")
        await reports.execute_transaction([{"type": "insert", "table": "sales", "data": {"id": 7}}])
        assert await app.run_action("reports.count", {"table": "sales"}) == 1


# Embedding


async def test_program_keeps_a_state(folder: Path) -> None:
    state = await example("embed", "job.py").main()
    assert (state["data"], state["version"]) == ({"rows": 120}, 2)
    assert (folder / "job-data" / "base04.sqlite3").exists()


async def test_program_uses_everything(pack: Path) -> None:
    assert await example("embed", "everything.py").main() == {"rows": [{"text": "Buy milk"}], "health": "healthy"}


async def test_host_joins_an_application(folder: Path) -> None:
    app = example("embed", "join.py").app
    async with app.router.lifespan_context(app), client(app) as http:
        assert [(await http.get("/")).json()["visits"] for _ in range(2)] == [1, 2]
        assert (await http.get("/health")).json() == {"status": "healthy"}


async def test_factory_takes_plugins(folder: Path) -> None:
    app = example("embed", "factory.py").app
    async with app.router.lifespan_context(app), client(app) as http:
        assert (await http.get("/version")).text == "1.0"
        assert app.manager.is_initialized()
    assert not app.manager.is_initialized()


def test_program_that_is_not_async(pack: Path) -> None:
    assert example("embed", "plain.py").main() == {"greeting": {"text": "Hello"}, "visits": 1}


def test_samples_are_where_the_pages_say() -> None:
    for name in (
        "chat",
        "greetings",
        "library",
        "limits_rate_limiter",
        "lmdb_redis",
        "mailer",
        "maintenance",
        "webhooks",
    ):
        assert (SAMPLES / name / "pyproject.toml").is_file()
