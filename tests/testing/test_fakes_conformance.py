"""Each fake passes the suite of its role, for the capabilities that it declares."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import websockets
from websockets.asyncio.client import ClientConnection

from base04.testing.conformance.action_discovery import PACK, ActionDiscoveryConformance
from base04.testing.conformance.api_key import ApiKeyConformance
from base04.testing.conformance.database import SqlConformance
from base04.testing.conformance.executor import ExecutorConformance
from base04.testing.conformance.hooks import HooksConformance
from base04.testing.conformance.jwt import JWTConformance
from base04.testing.conformance.module import ModuleConformance
from base04.testing.conformance.rate_limiter import AUTO_BAN, CONFIGURED, Another, RateLimiterConformance
from base04.testing.conformance.redis import RedisConformance
from base04.testing.conformance.services import ServicesConformance
from base04.testing.conformance.state import StateConformance
from base04.testing.conformance.vault import VaultConformance
from base04.testing.conformance.websocket import WebSocketConformance
from base04.testing.conformance.websocket_client import Connect, within
from base04.testing.fakes import (
    FakeActionDiscovery,
    FakeApiKey,
    FakeDatabase,
    FakeExecutor,
    FakeHooks,
    FakeJWT,
    FakeModule,
    FakeRedis,
    FakeServices,
    FakeState,
    FakeVault,
    FakeWebSocket,
)
from base04.testing.fakes.maker import MakeFake
from base04_builtin.action_discovery import action_discovery_providers
from base04_builtin.api_key import api_key_providers
from base04_builtin.database import database_providers
from base04_builtin.executor import executor_providers
from base04_builtin.hooks import hooks_providers
from base04_builtin.jwt import jwt_providers
from base04_builtin.module import module_providers
from base04_builtin.rate_limiter import rate_limiter_providers
from base04_builtin.redis import redis_providers
from base04_builtin.services import services_providers
from base04_builtin.state import state_providers
from base04_builtin.vault import vault_providers
from base04_builtin.websocket import websocket_providers
from base04_hookspecs.action_discovery import ActionDiscoveryManager
from base04_hookspecs.jwt import JWTManager
from base04_hookspecs.provider import Provider
from base04_hookspecs.rate_limiter import RateLimiterManager
from base04_hookspecs.roles import ROLES
from websocket_kit import NativeClient, serving


def declared(providers: Callable[[], Any]) -> frozenset[str]:
    """Return what the embedded provider declares, which is behind the fake."""
    found: list[Provider] = [provider for provider in providers() if provider.default]
    return found[0].capabilities


def another(role: str, folder: Path, **settings: Any) -> Callable[[], AbstractAsyncContextManager[Any]]:
    """Return what starts one more fake in the same folder, and stops it."""

    @asynccontextmanager
    async def make() -> AsyncIterator[Any]:
        fakes = MakeFake(lambda: folder, {role: settings})
        try:
            yield await fakes(role)
        finally:
            await fakes.close()

    return make


class TestFakeRedis(RedisConformance):
    capabilities = declared(redis_providers)

    @pytest.fixture
    def manager(self, fake_redis: FakeRedis) -> FakeRedis:
        return fake_redis

    @pytest.fixture
    def another(self, tmp_path: Path) -> Callable[[], AbstractAsyncContextManager[Any]]:
        return another("redis", tmp_path)


class TestFakeDatabase(SqlConformance):
    capabilities = declared(database_providers)

    @pytest.fixture
    async def manager(self, make_fake: MakeFake, tmp_path: Path) -> FakeDatabase:
        fake: FakeDatabase = await make_fake("database", folder=tmp_path)
        return fake

    @pytest.fixture
    def another(self, tmp_path: Path) -> Callable[[], AbstractAsyncContextManager[Any]]:
        return another("database", tmp_path)


class TestFakeVault(VaultConformance):
    capabilities = declared(vault_providers)

    @pytest.fixture
    async def manager(self, make_fake: MakeFake, tmp_path: Path) -> FakeVault:
        fake: FakeVault = await make_fake("vault", folder=tmp_path)
        return fake

    @pytest.fixture
    def another(self, tmp_path: Path) -> Callable[[], AbstractAsyncContextManager[Any]]:
        return another("vault", tmp_path)


class TestFakeHooks(HooksConformance):
    capabilities = declared(hooks_providers)

    @pytest.fixture
    def manager(self, fake_hooks: FakeHooks) -> FakeHooks:
        return fake_hooks


class TestFakeServices(ServicesConformance):
    capabilities = declared(services_providers)

    @pytest.fixture
    def manager(self, fake_services: FakeServices) -> FakeServices:
        return fake_services


class TestFakeState(StateConformance):
    capabilities = declared(state_providers)

    @pytest.fixture
    def manager(self, fake_state: FakeState) -> FakeState:
        return fake_state


class TestFakeApiKey(ApiKeyConformance):
    capabilities = declared(api_key_providers)

    @pytest.fixture
    def manager(self, fake_api_key: FakeApiKey) -> FakeApiKey:
        return fake_api_key


class TestFakeJWT(JWTConformance):
    capabilities = declared(jwt_providers) - {"jwks"}  # its keys are symmetric, unless settings say otherwise

    @pytest.fixture
    async def manager(self, fake_jwt: FakeJWT) -> FakeJWT:
        async with asyncio.timeout(30):  # its first news of revocations come a moment after its start
            while (await fake_jwt.health_check())["status"] != "healthy":
                await asyncio.sleep(0.01)
        return fake_jwt


class TestFakeRateLimiter(RateLimiterConformance):
    capabilities = declared(rate_limiter_providers)

    @pytest.fixture
    def another(self, tmp_path: Path) -> Another:
        return another("rate_limiter", tmp_path, limits=CONFIGURED, auto_ban=AUTO_BAN)

    @pytest.fixture
    async def manager(self, another: Another) -> AsyncIterator[RateLimiterManager]:
        async with another() as limiter:
            yield limiter


class TestFakeExecutor(ExecutorConformance):
    capabilities = declared(executor_providers)

    @pytest.fixture
    def fake_settings(self) -> Mapping[str, Any]:
        return {"executor": {"size": 1}}

    @pytest.fixture
    def executor(self, fake_executor: FakeExecutor) -> FakeExecutor:
        return fake_executor

    @pytest.fixture
    def another(self, tmp_path: Path) -> Callable[[], AbstractAsyncContextManager[Any]]:
        return another("executor", tmp_path, size=1)


class TestFakeModule(ModuleConformance):
    capabilities = declared(module_providers)

    @pytest.fixture
    def manager(self, fake_module: FakeModule) -> FakeModule:
        return fake_module


class TestFakeActionDiscovery(ActionDiscoveryConformance):
    capabilities = declared(action_discovery_providers)

    @pytest.fixture
    def fake_settings(self, tmp_path: Path) -> Mapping[str, Any]:
        (tmp_path / "pack.yaml").write_text(PACK, encoding="utf-8")
        return {"action_discovery": {"folders": [str(tmp_path)], "watch": False}}

    @pytest.fixture
    def manager(self, fake_action_discovery: FakeActionDiscovery) -> FakeActionDiscovery:
        return fake_action_discovery

    async def test_action_runs_through_the_host(self, manager: ActionDiscoveryManager) -> None:  # type: ignore[override]
        """The host behind the fake is a whole one, which notes nothing: what it returns shows that it ran."""
        info = await manager.find_action("greet")
        assert info is not None
        assert await manager.execute_action_logic(info, {"name": "Ada"}) == {"message": "Hello, Ada!"}


class TestFakeWebSocket(WebSocketConformance):
    capabilities = declared(websocket_providers)

    @pytest.fixture
    def manager(self, fake_websocket: FakeWebSocket) -> FakeWebSocket:
        return fake_websocket

    @pytest.fixture
    async def connect(self, manager: FakeWebSocket) -> AsyncIterator[Connect]:
        tokens = cast("JWTManager", manager.behind["jwt"])
        sockets: list[ClientConnection] = []

        async def handle(scope: Any, receive: Any, send: Any) -> None:
            await manager.handle(scope, receive, send)

        async with serving(handle) as host:

            async def connect(user_id: str, permissions: tuple[str, ...] = ()) -> NativeClient:
                token = await tokens.create_access_token(user_id, {"permissions": list(permissions)})
                headers = {"Authorization": f"Bearer {token}"}
                sockets.append(
                    await within(websockets.connect(f"ws://{host}/ws", additional_headers=headers, proxy=None))
                )
                return await NativeClient(sockets[-1]).greeted()

            yield connect
            for one in sockets:
                await one.close()


def test_every_role_has_a_fake_that_its_suite_tests() -> None:
    tested = {name.removeprefix("TestFake").lower() for name in globals() if name.startswith("TestFake")}
    assert tested == {role.replace("_", "") for role in ROLES}
