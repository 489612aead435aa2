from __future__ import annotations

from typing import Any

import pytest
from visits import Visits
from websockets.asyncio.client import connect

from base04 import AppManager
from base04.testing.hosts import MakeApp
from base04.testing.http_client import HostClient
from base04.testing.isolation import PluginChoice
from base04.testing.served import Served
from base04_hookspecs.errors import ManagerUnavailable


@pytest.fixture
def app_plugins() -> list[PluginChoice]:
    return [("visits", Visits())]


@pytest.fixture
def app_settings() -> dict[str, Any]:
    return {"managers": {"rate_limiter": {"limits": {"ip": "1000/minute"}}}}


async def test_visits_are_counted(app: AppManager) -> None:
    assert await app.run_action("visits.visit", {"page": "home"}) == 1
    assert await app.run_action("visits.visit", {"page": "home"}) == 2


async def test_only_who_may_sees_the_count(app: AppManager, client: HostClient) -> None:
    await app.run_action("visits.visit", {"page": "home"})
    ada = await client.as_user("ada", ["visits.read"])
    assert (await ada.get("/visits/home")).json() == {"visits": 1}
    bob = await client.as_user("bob", ["notes.*"])
    assert (await bob.get("/visits/home")).status_code == 403
    assert (await client.get("/visits/home")).status_code == 403


async def test_admin_sees_everything(admin_client: HostClient) -> None:
    assert (await admin_client.post("/actions/visits.visit", json={"page": "home"})).status_code == 200
    assert (await admin_client.get("/visits/home")).json() == {"visits": 1}


async def test_counts_of_two_hosts_are_two(make_app: MakeApp) -> None:
    one, two = await make_app(), await make_app()
    assert await one.run_action("visits.visit", {"page": "home"}) == 1
    assert await two.run_action("visits.visit", {"page": "home"}) == 1
    async with make_app(plugins=[]) as without:
        assert "visits" not in {plugin["name"] for plugin in without.list_plugins()}


async def test_socket_is_open(served: Served, app: AppManager) -> None:
    token = await app.jwt_manager.create_access_token("ada")
    async with connect(served.ws_url, additional_headers={"Authorization": f"Bearer {token}"}) as socket:
        assert "auth_ok" in str(await socket.recv())


def test_host_that_has_stopped_says_so(blocking_app: Any) -> None:
    assert blocking_app.run_action("visits.visit", {"page": "home"}) == 1
    blocking_app.stop()
    with pytest.raises(ManagerUnavailable):
        blocking_app.get_redis_manager()
