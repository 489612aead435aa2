from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from visits import Visits

from base04.testing.hosts import MakeApp
from base04.testing.proxy import FaultyProxy, Target
from base04.testing.servers.redis import RedisServer


def on(redis: str, **more: Any) -> dict[str, Any]:
    return {"managers": {"redis": {"provider": "server", "server": {"url": redis, **more}}}}


async def test_hosts_on_one_server_count_together(make_app: MakeApp, redis_url: str) -> None:
    one = await make_app(on(redis_url), [("visits", Visits())])
    two = await make_app(on(redis_url), [("visits", Visits())])
    assert await one.run_action("visits.visit", {"page": "home"}) == 1
    assert await two.run_action("visits.visit", {"page": "home"}) == 2


async def test_visit_is_let_go_while_the_server_is_away(
    make_app: MakeApp, redis_server: RedisServer, faulty_proxy: Callable[[Target], Awaitable[FaultyProxy]]
) -> None:
    proxy = await faulty_proxy(redis_server.address)
    app = await make_app(on(f"redis://{proxy.host}:{proxy.port}/0"), [("visits", Visits())])
    assert await app.run_action("visits.visit", {"page": "away"}) is not None
    await proxy.refuse()
    assert await app.run_action("visits.visit", {"page": "away"}) is None
    await proxy.pass_all()


async def test_rows_are_on_postgresql(make_app: MakeApp, postgres_database: str) -> None:
    chosen = {"provider": "postgresql", "postgresql": {"url": postgres_database}}
    app = await make_app({"managers": {"database": chosen}}, only=["database"])
    assert "PostgreSQL" in str(await app.get_db_manager().execute_query("SELECT version() AS version"))
