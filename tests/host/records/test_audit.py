"""The audit log of a host in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from base04 import AppManager
from base04.records.audit_table import AuditQuery
from base04_hookspecs import ANONYMOUS, Principal, RequestContext, hookimpl
from base04_hookspecs.host_hooks import AuditEvent

CALLER = RequestContext("r-1", Principal("ada", (), "token"), "192.0.2.1", "http")


class Listener:
    def __init__(self) -> None:
        self.heard: list[AuditEvent] = []

    @hookimpl
    def audit_event(self) -> list[Any]:
        async def listen(event: AuditEvent) -> None:
            self.heard.append(event)

        async def failing(event: AuditEvent) -> None:
            event["details"].clear()
            raise RuntimeError("no")

        return [failing, listen]


@pytest.fixture
def listener() -> Listener:
    return Listener()


@pytest.fixture
async def app(tmp_path: Path, listener: Listener) -> AsyncIterator[AppManager]:
    settings = {"data_dir": str(tmp_path / "data"), "audit": {"most_denials": 5, "retention": "1d"}}
    async with AppManager(settings, plugins=[("listener", listener)], safe_mode=True) as manager:
        yield manager


async def events(app: AppManager, **query: Any) -> list[dict[str, Any]]:
    found, _ = await app.audit.query(AuditQuery(**query))
    return found


async def test_what_is_recorded_is_kept_and_told(app: AppManager, listener: Listener) -> None:
    await app.audit.record("api_key.created", "success", CALLER, key_id="k", permissions=["a.b"])
    (event,) = await events(app)
    assert event["details"] == {"key_id": "k", "permissions": ["a.b"]}
    assert (event["user_id"], event["client_ip"], event["request_id"]) == ("ada", "192.0.2.1", "r-1")
    assert [heard["details"] for heard in listener.heard] == [event["details"]]


async def test_listener_that_hangs_holds_up_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hanging:
        @hookimpl
        def audit_event(self) -> list[Any]:
            async def hang(event: AuditEvent) -> None:
                await asyncio.Event().wait()

            return [hang]

    monkeypatch.setattr("base04.records.audit._LISTENER_S", 0.01)
    listener = Listener()
    plugins = [("hanging", Hanging()), ("listener", listener)]
    async with AppManager({"data_dir": str(tmp_path / "data")}, plugins=plugins, safe_mode=True) as app:
        await app.audit.record("token.issued", "success", CALLER)
        app.audit.deny("auth.denied", "expired", CALLER)
        assert len(await events(app)) == 2
    assert [event["event"] for event in listener.heard] == ["token.issued", "auth.denied"]


async def test_denials_are_told_to_listeners_and_hooks(app: AppManager, listener: Listener) -> None:
    announced: list[dict[str, Any]] = []

    async def hear(**data: Any) -> None:
        announced.append(data)

    await app.hooks_manager.register_callback("auth.denied", hear)
    for _ in range(3):
        app.audit.deny("auth.denied", "expired", CALLER, path="/x")
    (event,) = await events(app)
    assert (event["event"], event["outcome"]) == ("auth.denied", "denied")
    assert [heard["details"] for heard in listener.heard] == [{"path": "/x", "reason": "expired"}]
    assert [(data["client_ip"], data["details"]["reason"]) for data in announced] == [("192.0.2.1", "expired")]


async def test_reuse_of_a_refresh_token_is_recorded(app: AppManager) -> None:
    await app.hooks_manager.trigger_hook("jwt.refresh_reused", family="f", user_id="eve")
    (event,) = await events(app)
    assert (event["event"], event["outcome"]) == ("token.refresh_reused", "denied")
    assert event["details"] == {"family": "f", "for_user": "eve"}


async def test_events_of_one_moment_are_all_kept(app: AppManager) -> None:
    await asyncio.gather(*(app.audit.record("token.issued", "success", CALLER, number=n) for n in range(50)))
    assert {event["details"]["number"] for event in await events(app)} == set(range(50))


async def test_old_events_go_and_so_do_denials_beyond_their_number(app: AppManager) -> None:
    for number in range(9):
        app.audit.deny("auth.denied", f"reason {number}", RequestContext("r", ANONYMOUS, "192.0.2.1"))
    await app.audit.record("token.issued", "success", CALLER)
    assert len(await events(app)) == 10
    database = app.get_db_manager()
    await database.execute_transaction(
        [
            {
                "type": "insert",
                "table": "base04_audit",
                "data": {"id": "0" * 24, "at": 0.0, "event": "old", "outcome": "success", "details": {}},
            }
        ]
    )
    assert await app.audit.sweep() == 1 + 4
    left = await events(app)
    assert sorted(event["details"].get("reason", "") for event in left) == ["", *(f"reason {n}" for n in range(4, 9))]
    assert await app.audit.sweep() == 0


async def test_stop_writes_what_waits(tmp_path: Path) -> None:
    settings = {"data_dir": str(tmp_path / "data")}
    async with AppManager(settings, safe_mode=True) as first:
        for _ in range(4):
            first.audit.deny("auth.denied", "expired", CALLER)
    async with AppManager(settings, safe_mode=True) as second:
        found = await events(second)
    assert [event["details"].get("count") for event in found] == [3, None]


async def test_long_values_of_callers_are_cut(app: AppManager) -> None:
    app.audit.deny("auth.denied", "x" * 5000, RequestContext("r" * 5000, ANONYMOUS, "192.0.2.1"), path="/" * 5000)
    (event,) = await events(app)
    assert (len(event["request_id"]), len(event["details"]["reason"]), len(event["details"]["path"])) == (255, 200, 200)
