"""Deliveries of one manager, on a real database, to endpoints that are good, slow, broken and gone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from base04_webhooks import WebhooksManager
from base04_webhooks.manager import OutboxWebhooksManager
from base04_webhooks.settings import WebhooksSettings
from receiver import PATIENCE_S, SECRET, Delivery, Receiver

from base04 import AppManager
from base04.testing.servers.process import free_port
from base04_hookspecs.database import DatabaseManager, Operation
from base04_hookspecs.errors import InvalidInput, ManagerUnavailable, NotFound, OutcomeUnknown


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def settings(url: str, **values: Any) -> dict[str, Any]:
    own = {"url": url, "secret": SECRET, "timeout": "5s", **values.pop("endpoint", {})}
    return {"endpoints": {"one": own}, "pause": "10ms", "longest_pause": "50ms", **values}


@asynccontextmanager
async def running(folder: Path, url: str, **values: Any) -> AsyncIterator[WebhooksManager]:
    host = {"data_dir": str(folder), "managers": {"webhooks": settings(url, **values)}}
    async with AppManager(host, only=["webhooks"]) as app:
        yield cast(WebhooksManager, app.get_manager("webhooks"))


async def arrived(receiver: Receiver, holds: Callable[[list[Delivery]], bool]) -> list[Delivery]:
    return await asyncio.to_thread(receiver.wait_for, holds)


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.01)


async def test_events_arrive_signed_and_leave_the_outbox(tmp_path: Path, receiver: Receiver) -> None:
    async with running(tmp_path, receiver.url) as manager:
        for number in range(20):
            assert await manager.post("shop.sold", {"number": number, "name": "Ädä"}) is True
        found = await arrived(receiver, lambda found: len(found) == 20)

        async def empty() -> bool:
            return (await manager.status())[0]["waiting"] == 0

        await until(empty)
        assert (await manager.health_check())["status"] == "healthy"
    assert sorted(each.body["data"]["number"] for each in found) == list(range(20))
    assert {each.body["type"] for each in found} == {"shop.sold"}
    assert len({each.message_id for each in found}) == 20
    assert receiver.unsigned == []


async def test_only_what_an_endpoint_wants_is_sent(tmp_path: Path, receiver: Receiver) -> None:
    async with running(tmp_path, receiver.url, endpoint={"events": ["audit.*", "shop.sold"]}) as manager:
        assert [manager.wants(name) for name in ("audit.x.y", "shop.sold", "shop.bought")] == [True, True, False]
        assert await manager.post("shop.bought", {}) is False
        assert manager.post_soon("shop.sold", {}) is True
        found = await arrived(receiver, lambda found: len(found) == 1)
    assert [each.body["type"] for each in found] == ["shop.sold"]


async def test_failures_are_tried_again_with_the_same_id(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers = [500, 404, (301, {"location": "http://127.0.0.1:1/"}), 503]
    async with running(tmp_path, receiver.url) as manager:
        await manager.post("shop.sold", {"n": 1})
        found = await arrived(receiver, lambda found: len(found) == 5)
    assert len({each.message_id for each in found}) == 1


async def test_endpoint_that_is_down_loses_nothing(tmp_path: Path) -> None:
    port = free_port()
    async with running(tmp_path, f"http://127.0.0.1:{port}/hook", attempts=1000) as manager:
        for number in range(10):
            await manager.post("shop.sold", {"number": number})

        async def noticed() -> bool:
            return "Connect" in ((await manager.status())[0]["last_error"] or "")

        await until(noticed)
        assert (await manager.health_check())["status"] == "degraded"
        with Receiver(port) as receiver:
            found = await arrived(receiver, lambda found: len(found) == 10)

            async def well() -> bool:
                return (await manager.health_check())["status"] == "healthy"

            await until(well)
    assert sorted(each.body["data"]["number"] for each in found) == list(range(10))


async def test_slow_endpoint_holds_up_nobody(tmp_path: Path, receiver: Receiver) -> None:
    release = threading.Event()
    with Receiver() as slow:
        slow.answers = [lambda: 204 if release.wait(PATIENCE_S) else 500] * 4
        one = {"url": receiver.url, "secret": SECRET}
        two = {"url": slow.url, "secret": SECRET, "timeout": "50s"}
        async with running(tmp_path, "http://unused.example", endpoints={"one": one, "two": two}) as manager:
            for number in range(8):
                await manager.post("shop.sold", {"number": number})
            assert len(await arrived(receiver, lambda found: len(found) == 8)) == 8
            await arrived(slow, lambda found: len(found) == 4)
            release.set()
            await arrived(slow, lambda found: len(found) == 8)


async def test_endpoint_that_does_not_answer_in_time_has_failed(tmp_path: Path, receiver: Receiver) -> None:
    release = threading.Event()
    receiver.answers = [lambda: 204 if release.wait(PATIENCE_S) else 500]
    async with running(tmp_path, receiver.url, endpoint={"timeout": "200ms"}) as manager:
        await manager.post("shop.sold", {})
        found = await arrived(receiver, lambda found: len(found) == 2)
        release.set()
    assert found[0].message_id == found[1].message_id


async def test_what_fails_too_often_is_given_up_until_somebody_asks(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers = [500, 500, 500]
    async with running(tmp_path, receiver.url, attempts=3) as manager:
        await manager.post("shop.sold", {})

        async def dead() -> bool:
            return (await manager.status())[0]["dead"] == 1

        await until(dead)
        (status,) = await manager.status()
        assert (status["waiting"], status["last_error"]) == (0, "answered 500")
        assert status["url"] == receiver.url.removesuffix("/hook")
        assert await manager.retry("one") == 1
        found = await arrived(receiver, lambda found: len(found) == 4)
        assert len({each.message_id for each in found}) == 1
        with pytest.raises(NotFound, match="one"):
            await manager.retry("two")


async def test_gone_is_given_up_at_once(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers = [410]
    async with running(tmp_path, receiver.url) as manager:
        await manager.post("shop.sold", {})

        async def dead() -> bool:
            return (await manager.status())[0]["dead"] == 1

        await until(dead)
    assert len(receiver.deliveries) == 1


async def test_retry_after_is_respected_until_somebody_asks(tmp_path: Path, receiver: Receiver) -> None:
    receiver.answers = [(429, {"retry-after": "3600"})]
    async with running(tmp_path, receiver.url) as manager:
        await manager.post("shop.sold", {"n": 1})

        async def put_off() -> bool:
            return (await manager.status())[0]["last_error"] == "answered 429"

        await until(put_off)
        await manager.post("shop.sold", {"n": 2})
        found = await arrived(receiver, lambda found: len(found) == 2)
        assert found[1].body["data"] == {"n": 2}  # the first one waits
        assert await manager.retry("one") == 1
        found = await arrived(receiver, lambda found: len(found) == 3)
        assert found[2].message_id == found[0].message_id


async def test_what_was_not_answered_when_the_host_stopped_comes_after_the_next_start(
    tmp_path: Path, receiver: Receiver
) -> None:
    release = threading.Event()
    receiver.answers = [lambda: 204 if release.wait(PATIENCE_S) else 500]
    async with running(tmp_path, receiver.url, drain_timeout="100ms", endpoint={"timeout": "50s"}) as manager:
        await manager.post("shop.sold", {})
        await arrived(receiver, lambda found: len(found) == 1)
    release.set()
    async with running(tmp_path, receiver.url):
        found = await arrived(receiver, lambda found: len(found) == 2)
    assert found[0].message_id == found[1].message_id


async def test_queued_events_are_written_when_the_host_stops(tmp_path: Path, receiver: Receiver) -> None:
    async with running(tmp_path, "http://127.0.0.1:1/hook", attempts=1000, drain_timeout="30s") as manager:
        for number in range(1000):
            manager.post_soon("shop.sold", {"number": number})
    async with running(tmp_path, receiver.url):
        found = await arrived(receiver, lambda found: len(found) >= 1000)
    assert sorted(each.body["data"]["number"] for each in found) == list(range(1000))


async def test_two_managers_on_one_database_deliver_each_message_once(tmp_path: Path, receiver: Receiver) -> None:
    host = {"data_dir": str(tmp_path), "managers": {"webhooks": {"provider": "none"}}}
    async with AppManager(host, only=["database"]) as app:
        database = cast(DatabaseManager, app.get_manager("database"))
        model = WebhooksSettings.model_validate(settings(receiver.url))
        managers = [OutboxWebhooksManager(model, database) for _ in range(2)]
        for manager in managers:
            await manager.start()
        for number in range(100):
            await managers[number % 2].post("shop.sold", {"number": number})

        async def empty() -> bool:
            return (await managers[0].status())[0]["waiting"] == 0

        await until(empty)
        for manager in managers:
            await manager.stop()
    assert sorted(each.body["data"]["number"] for each in receiver.deliveries) == list(range(100))


class Flaky:
    """A database that can be away."""

    def __init__(self, database: DatabaseManager) -> None:
        self.away = False
        self.loses_replies = False
        self.refuses: str | None = None
        self._database = database

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    async def execute_transaction(self, operations: list[Operation]) -> bool:
        if self.away:
            raise ManagerUnavailable("The database is away.")
        if self.refuses is not None and any(self.refuses in str(each.get("data")) for each in operations):
            raise InvalidInput("This cannot be stored.")
        done = await self._database.execute_transaction(operations)
        if self.loses_replies:
            self.loses_replies = False
            raise OutcomeUnknown("The reply was lost.")
        return done


@asynccontextmanager
async def flakily(folder: Path, url: str, **values: Any) -> AsyncIterator[tuple[OutboxWebhooksManager, Flaky]]:
    host = {"data_dir": str(folder), "managers": {"webhooks": {"provider": "none"}}}
    async with AppManager(host, only=["database"]) as app:
        flaky = Flaky(cast(DatabaseManager, app.get_manager("database")))
        model = WebhooksSettings.model_validate(settings(url, **values))
        manager = OutboxWebhooksManager(model, cast(DatabaseManager, flaky))
        try:
            await manager.start()
            yield manager, flaky
        finally:
            await manager.stop()


async def test_events_wait_in_memory_while_the_database_is_away(tmp_path: Path, receiver: Receiver) -> None:
    async with flakily(tmp_path, receiver.url, queue_size=5) as (manager, flaky):
        flaky.away = True
        for number in range(8):
            assert await manager.post("shop.sold", {"number": number}) is True  # it waits for no database
        report = await manager.health_check()
        assert (report["status"], report["metrics"]["queued"], report["metrics"]["errors"]) == ("degraded", 5, 3)
        flaky.away = False
        found = await arrived(receiver, lambda found: len(found) == 5)
    assert sorted(each.body["data"]["number"] for each in found) == [3, 4, 5, 6, 7]


async def test_event_whose_writing_had_an_unknown_outcome_is_delivered_once(tmp_path: Path, receiver: Receiver) -> None:
    async with flakily(tmp_path, "http://127.0.0.1:1/hook", attempts=1000) as (manager, flaky):
        flaky.loses_replies = True
        await manager.post("shop.sold", {"number": 1})
        await manager.post("shop.sold", {"number": 2})

        async def written() -> bool:
            return (await manager.health_check())["metrics"]["queued"] == 0

        await until(written)
        assert (await manager.status())[0]["waiting"] == 2


async def test_event_that_cannot_be_stored_stops_no_other(tmp_path: Path, receiver: Receiver) -> None:
    async with flakily(tmp_path, receiver.url) as (manager, flaky):
        flaky.refuses = "poison"
        for name in ("good", "poison", "better"):
            manager.post_soon("shop.sold", {"name": name})
        found = await arrived(receiver, lambda found: len(found) == 2)
        assert (await manager.health_check())["metrics"]["errors"] == 1
    assert {each.body["data"]["name"] for each in found} == {"good", "better"}


@pytest.mark.parametrize("data", [{"x": float("nan")}, {"x": object()}, {"x": "\ud800"}])
async def test_data_that_are_not_json_are_refused(tmp_path: Path, receiver: Receiver, data: dict[str, Any]) -> None:
    async with running(tmp_path, receiver.url) as manager:
        with pytest.raises(InvalidInput, match=r"shop\.sold"):
            await manager.post("shop.sold", data)
        with pytest.raises(InvalidInput, match=r"shop\.sold"):
            manager.post_soon("shop.sold", data)
