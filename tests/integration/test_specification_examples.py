"""Every usage example of the specification runs as it stands, inside a function, against the host for code that is not
async: with its embedded default, and on Redis and PostgreSQL servers. The tests bring what the examples take for
granted: the names that they use, an application, tables, secrets, an action; and look at what each example did.
"""

from __future__ import annotations

import contextlib
import json
import re
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from starlette.applications import Starlette
from starlette.testclient import TestClient
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from base04.blocking import AppManager
from base04_hookspecs import RequestContext
from base04_hookspecs.action_discovery import ActionInfo
from base04_hookspecs.context import use_request
from base04_hookspecs.errors import InvalidApiKey, InvalidToken
from base04_hookspecs.state import StateChange, StateTransition, StateType

SPECIFICATION: Final = Path(__file__).parents[1] / "data" / "managers.md"
MANAGERS: Final = (
    "AppManager",
    "StateManager",
    "DatabaseManager",
    "RedisManager",
    "JWTManager",
    "ApiKeyManager",
    "VaultManager",
    "RateLimiterManager",
    "ActionDiscoveryManager",
    "WebSocketManager",
)
WAIT_S: Final = 60

_EXAMPLE: Final = re.compile(r"^### \d+\. (\w+)$|^#### Usage Example\n+```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def read_examples() -> dict[str, str]:
    """Return the usage examples of the specification by manager."""
    examples: dict[str, str] = {}
    manager = ""
    for match in _EXAMPLE.finditer(SPECIFICATION.read_text(encoding="utf-8")):
        heading, example = match.groups()
        if heading is not None:
            manager = heading
        else:
            assert manager not in examples
            examples[manager] = example
    return examples


EXAMPLES: Final = read_examples()


def run_example(manager: str, **names: Any) -> dict[str, Any]:
    """Run an example inside a function and return what its names stand for in the end; empty if it returned early."""
    source = f"def example():\n{textwrap.indent(EXAMPLES[manager], '    ')}\n    return locals()\n"
    namespace: dict[str, Any] = dict(names)
    exec(compile(source, f"{SPECIFICATION.name}, {manager}", "exec"), namespace)
    return namespace["example"]() or {}


@pytest.fixture(params=["embedded", "servers"])
def backends(request: pytest.FixtureRequest) -> dict[str, Any]:
    """Where the managers keep what they keep, as settings; empty for the embedded default."""
    if request.param == "embedded":
        return {}
    redis, database = request.getfixturevalue("redis_url"), request.getfixturevalue("postgres_database")
    return {
        "redis": {"provider": "server", "server": {"url": redis}},
        "database": {"provider": "postgresql", "postgresql": {"url": database}},
    }


@pytest.fixture
def number(backends: dict[str, Any]) -> str:
    """The type of a column that numbers its rows by itself."""
    return "SERIAL" if backends else "INTEGER"


@pytest.fixture
def settings_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backends: dict[str, Any]) -> Path:
    """The settings of whoever follows the specification, in a folder of their own that the program runs in."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "actions").mkdir()
    file = tmp_path / "base04.yaml"
    managers = {
        "rate_limiter": {"limits": {"ip": "3/hour"}},
        "action_discovery": {"folders": ["actions"]},
        **backends,
    }
    settings = {
        "data_dir": str(tmp_path / "data"),
        "server": {"port": 0},
        "plugins": {"allow": ["builtin-*"]},
        "managers": managers,
    }
    file.write_text(yaml.safe_dump(settings), encoding="utf-8")
    return file


@pytest.fixture
def app_manager(settings_file: Path) -> Iterator[AppManager]:
    with AppManager(settings_file) as manager:
        yield manager


def test_specification_has_an_example_for_each_manager() -> None:
    assert tuple(EXAMPLES) == MANAGERS
    for manager in MANAGERS:
        assert f"test_example_of_{manager}" in globals()


def test_example_of_AppManager(settings_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = Starlette()
    app_manager = run_example("AppManager", AppManager=AppManager, app=app)["app_manager"]
    try:
        assert "Application is healthy\n" in capsys.readouterr().out
        assert app_manager.health_check()["status"] == "healthy"
        assert app_manager.data_dir == settings_file.parent / "data"
        with TestClient(app) as client:
            assert client.get("/health/live").status_code == 200
    finally:
        app_manager.stop()


def test_example_of_StateManager(app_manager: AppManager) -> None:
    names = {"app_manager": app_manager, "StateType": StateType, "StateTransition": StateTransition}
    changes: list[StateChange] = []
    changed = threading.Event()

    def remember(change: StateChange) -> None:
        changes.append(change)
        if change["transition"] == "update":
            changed.set()

    app_manager.get_state_manager().register_callback("user_*", remember)
    done = run_example("StateManager", **names)
    state = done["state"]
    assert state["data"] == {
        "user_id": "123",
        "login_time": "2024-01-01T10:00:00Z",
        "last_activity": "2024-01-01T11:00:00Z",
    }
    assert (state["state_type"], state["status"], state["version"]) == ("session", "active", 2)
    assert state["allowed_transitions"] == ["update", "delete", "expire"]
    assert done["state_manager"].get_state("user_123_session", fresh=True) == state
    history = done["state_manager"].get_state_history("user_123_session")
    assert [change["transition"] for change in history] == ["update", "create"]
    assert changed.wait(WAIT_S)
    assert changes[-1]["after"] == state["data"]


def test_backends_are_what_they_are_said_to_be(app_manager: AppManager, backends: dict[str, Any]) -> None:
    running = {item for plugin in app_manager.list_plugins() for item in plugin["contributes"]["running"]}
    chosen = {"redis:server", "database:postgresql"} if backends else {"redis:memory", "database:sqlite"}
    assert chosen <= running


def test_example_of_DatabaseManager(app_manager: AppManager, number: str, capsys: pytest.CaptureFixture[str]) -> None:
    database = app_manager.get_db_manager(role="admin")
    database.execute_query(f"CREATE TABLE users (id {number} PRIMARY KEY, name TEXT)")
    database.execute_query("CREATE TABLE sessions (token TEXT PRIMARY KEY, user_id INTEGER)")
    database.execute_query("INSERT INTO users (id, name) VALUES (:id, :name)", {"id": 123, "name": "Ada"})
    database.execute_query("INSERT INTO sessions (token) VALUES ('a'), ('b')")

    done = run_example("DatabaseManager", app_manager=app_manager)
    assert "Database connection is healthy\n" in capsys.readouterr().out
    assert done["result"] == [{"id": 123, "name": "Ada"}]
    assert done["success"] is True
    assert [row["name"] for row in database.find("users", order_by=["name"])] == ["Ada", "John"]
    assert [row["user_id"] for row in database.find("sessions")] == [123, 123]


def test_example_of_RedisManager(app_manager: AppManager, capsys: pytest.CaptureFixture[str]) -> None:
    messages: list[tuple[str, Any]] = []
    published = threading.Event()

    def listen(channel: str, message: Any) -> None:
        messages.append((channel, message))
        published.set()

    redis = app_manager.get_redis_manager()
    redis.subscribe("user_events", listen)
    done = run_example("RedisManager", app_manager=app_manager)
    assert "Redis connection is healthy\n" in capsys.readouterr().out
    assert done["session_data"] == {"user_id": 123, "login_time": "2024-01-01T10:00:00Z"}
    remaining = redis.ttl("user:123:session")
    assert remaining is not None
    assert 0 < remaining <= 3600
    assert published.wait(WAIT_S)
    assert messages == [("user_events", {"user_id": 123, "event": "login"})]


def test_example_of_JWTManager(app_manager: AppManager, capsys: pytest.CaptureFixture[str]) -> None:
    done = run_example("JWTManager", app_manager=app_manager)
    assert "Token validation failed" not in capsys.readouterr().out
    assert done["user_id"] == "123"
    assert (done["payload"]["role"], done["payload"]["permissions"]) == ("user", ["read", "write"])
    jwt, new_tokens = app_manager.jwt_manager, done["new_tokens"]
    assert jwt.validate_token(new_tokens["access_token"])["user_id"] == "123"
    assert new_tokens["refresh_token"] != done["refresh_token"]
    with pytest.raises(InvalidToken):
        jwt.validate_token(done["refresh_token"])


def test_example_of_ApiKeyManager(app_manager: AppManager, capsys: pytest.CaptureFixture[str]) -> None:
    done = run_example("ApiKeyManager", app_manager=app_manager)
    assert "API key validation failed" not in capsys.readouterr().out
    assert (done["user_id"], done["permissions"]) == ("123", ["read", "write", "admin"])
    with pytest.raises(InvalidApiKey):
        app_manager.api_key_manager.validate_api_key(done["api_key"])
    assert app_manager.api_key_manager.get_api_key_info(done["api_key"])["revoked_at"] is not None


def test_example_of_VaultManager(app_manager: AppManager, capsys: pytest.CaptureFixture[str]) -> None:
    vault = app_manager.vault_manager
    vault.set_secret_value("flask-app/mongodb", "root_password", "correct horse")
    vault.set_secret_value("flask-app/app", "secret_key", "battery staple")
    done = run_example("VaultManager", app_manager=app_manager)
    assert (done["db_password"], done["jwt_secret"]) == ("correct horse", "battery staple")
    told = capsys.readouterr().out
    assert "Vault is healthy\n" in told
    assert "Failed to get secrets" not in told


def test_example_of_RateLimiterManager(app_manager: AppManager, capsys: pytest.CaptureFixture[str]) -> None:
    with use_request(RequestContext("r1", client_ip="192.168.1.1")):
        done = run_example("RateLimiterManager", app_manager=app_manager)
        assert done["result"]["allowed"] is True
        assert "Remaining requests: 2\n" in capsys.readouterr().out
        # The address is banned now, so that the example ends at its `return`.
        assert run_example("RateLimiterManager", app_manager=app_manager) == {}
        assert "Rate limit exceeded: ['ip']\n" in capsys.readouterr().out
    info = app_manager.rate_limiter_manager.get_rate_limit_info("192.168.1.1", "ip")
    assert info["banned"] is True
    assert info["ban_expires_at"] is not None


PACK: Final = """
pack: accounts
version: 1.0.0
actions:
  create_user:
    summary: Create a user
    handler: specification_accounts:create_user
    access: public
    parameters:
      username: {type: string, minLength: 1}
      email: {type: string}
    required: [username, email]
"""

HANDLERS: Final = """
from base04_hookspecs.blocking import DatabaseManager


def create_user(username: str, email: str, database: DatabaseManager) -> dict:
    data = {"username": username, "email": email}
    database.execute_transaction([{"type": "insert", "table": "accounts", "data": data}])
    return {"created": username}
"""


@pytest.fixture
def accounts_pack(settings_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An action ``create_user`` with a handler that is not async, in the folder that the settings name."""
    folder = settings_file.parent
    (folder / "actions" / "accounts.yaml").write_text(PACK, encoding="utf-8")
    (folder / "specification_accounts.py").write_text(HANDLERS, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))


@pytest.mark.usefixtures("accounts_pack")
def test_example_of_ActionDiscoveryManager(app_manager: AppManager, capsys: pytest.CaptureFixture[str]) -> None:
    database = app_manager.get_db_manager()
    database.execute_query("CREATE TABLE accounts (username TEXT PRIMARY KEY, email TEXT)")
    done = run_example("ActionDiscoveryManager", app_manager=app_manager)
    assert done["result"] == {"created": "john"}
    assert database.find("accounts") == [{"username": "john", "email": "john@example.com"}]
    info: ActionInfo = done["action_info"]
    assert (info["name"], info["module"]) == ("accounts.create_user", "specification_accounts")
    told = capsys.readouterr().out
    assert "Action found: specification_accounts\n" in told
    assert "Action: accounts.create_user -> Module: specification_accounts\n" in told
    assert app_manager.action_discovery_manager.get_faults() == []


def test_example_of_WebSocketManager(app_manager: AppManager, capsys: pytest.CaptureFixture[str]) -> None:
    app = Starlette()
    app_manager.initialize(app)
    token = app_manager.jwt_manager.create_access_token("123")
    with served(app_manager, app) as url, client(url, token) as socket:
        ask(socket, type="join", room="user_123", id=1)
        done = run_example("WebSocketManager", app_manager=app_manager, app=app)
        event = json.loads(socket.recv(WAIT_S))
        assert (event["room"], event["event"], event["data"]) == ("user_123", "notification", {"message": "Hello!"})
        assert done["room_info"]["users"] == ["123"]
        assert done["room_info"]["connections"] == 1
        assert "Users in room: ['123']\n" in capsys.readouterr().out


@contextlib.contextmanager
def served(app_manager: AppManager, app: Starlette) -> Iterator[str]:
    """Serve an application as a program does, in a thread of its own."""
    urls: list[str] = []
    listening = threading.Event()

    async def on_ready(url: str) -> None:
        urls.append(url)
        listening.set()

    def run() -> None:
        try:
            app_manager.run(app, on_ready=on_ready)
        finally:
            listening.set()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert listening.wait(WAIT_S)
        assert urls, "the host ended before it listened"
        yield urls[0].replace("http://", "ws://")
    finally:
        app_manager.stop()
        thread.join()


@contextlib.contextmanager
def client(url: str, token: str) -> Iterator[ClientConnection]:
    protocols = [Subprotocol("base04.v1"), Subprotocol(f"bearer.{token}")]
    with connect(f"{url}/ws", subprotocols=protocols) as socket:
        assert json.loads(socket.recv(WAIT_S))["type"] == "auth_ok"
        yield socket


def ask(socket: ClientConnection, **message: Any) -> None:
    socket.send(json.dumps(message))
    answer = json.loads(socket.recv(WAIT_S))
    assert (answer["type"], answer["id"]) == ("ack", message["id"])
