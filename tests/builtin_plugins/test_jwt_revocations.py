"""Revocation between processes: known without asking while news come through, asked for when they may not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from base04_builtin.jwt.revocations import CHANNEL
from base04_builtin.jwt.signed import SignedJWTManager
from base04_hookspecs.errors import ManagerUnavailable
from jwt_kit import NOW, BusConnection, Clock, Parts, parts, refused, until, verdict

__all__ = ["parts"]

BEAT: dict[str, Any] = {"heartbeat_interval": 0.01}


class Process:
    """A manager with a connection and a steady clock of its own, as each process has."""

    def __init__(self, parts: Parts, clock: Clock | None = None) -> None:
        self.parts = parts
        self.bus = BusConnection(parts.redis)
        self.steady = Clock(0.0)
        self.clock = clock
        self.jwt: SignedJWTManager

    async def start(self, **settings: Any) -> Process:
        given = {**BEAT, **settings}
        self.jwt = await self.parts.start(self.bus, clock=self.clock, steady=self.steady, **given)
        await self.jwt.create_access_token("the first one has the revocations read")
        return self

    async def is_fed(self) -> bool:
        """Tell whether heartbeats come through that were sent at the present time of its clock."""
        return (await self.jwt.health_check())["dependencies"]["redis"] == "healthy"

    async def without_asking(self, token: str) -> str:
        """Return the verdict on a token once it can be had without the database, which is cut off meanwhile."""
        self.steady.now += 100
        self.parts.database.cut_off = True
        assert await verdict(self.jwt, token) == "unknown"
        try:
            async with asyncio.timeout(60):
                while (found := await verdict(self.jwt, token)) == "unknown":
                    await asyncio.sleep(0.005)
        finally:
            self.parts.database.cut_off = False
        return found


@pytest.fixture
async def here(parts: Parts) -> Process:
    return await Process(parts).start()


@pytest.fixture
async def there(parts: Parts) -> Process:
    return await Process(parts).start()


async def heard_beats(process: Process, number: int) -> None:
    """Wait until a process has sent some more heartbeats."""
    heard = asyncio.Semaphore(0)

    async def count(channel: str, message: Any) -> None:
        if message["type"] == "beat":
            heard.release()

    await process.parts.redis.subscribe(CHANNEL, count)
    async with asyncio.timeout(60):
        for _ in range(number):
            await heard.acquire()
    await process.parts.redis.unsubscribe(CHANNEL, count)


async def test_check_asks_nobody_while_heartbeats_come_through(here: Process) -> None:
    token = await here.jwt.create_access_token("123")
    assert await here.without_asking(token) == "valid"


async def test_heartbeat_counts_from_when_it_was_sent_and_not_for_long(here: Process) -> None:
    token = await here.jwt.create_access_token("123")
    here.bus.deaf = True
    here.parts.database.cut_off = True
    here.steady.now += 0.8
    assert await verdict(here.jwt, token) == "valid"
    here.steady.now += 0.21
    assert await verdict(here.jwt, token) == "unknown"
    await heard_beats(here, 5)
    assert await verdict(here.jwt, token) == "unknown"


async def test_watcher_of_another_process_is_called_once_for_each_revocation(here: Process, there: Process) -> None:
    told = asyncio.Semaphore(0)
    end = there.jwt.watch_revocations(told.release)
    for revoke in (
        here.jwt.revoke_user_tokens("123"),
        here.jwt.blacklist_token(await here.jwt.create_access_token("4")),
    ):
        await revoke
        async with asyncio.timeout(60):
            await told.acquire()
    await heard_beats(there, 2)
    assert told.locked()
    end()
    end()
    await here.jwt.revoke_user_tokens("567")
    await heard_beats(there, 2)
    assert told.locked()


@pytest.mark.parametrize("revoke", ["jti", "family", "user", "source"])
async def test_announced_revocation_needs_no_database(here: Process, there: Process, revoke: str) -> None:
    access = await here.jwt.create_access_token("123", source="api_key:abc")
    refresh = await here.jwt.create_refresh_token("123")
    pair = await here.jwt.refresh_token(refresh)
    await {
        "jti": lambda: here.jwt.blacklist_token(access),
        "family": lambda: here.jwt.blacklist_token(pair["refresh_token"]),
        "user": lambda: here.jwt.revoke_user_tokens("123"),
        "source": lambda: here.jwt.revoke_source_tokens("api_key:abc"),
    }[revoke]()
    token = pair["access_token"] if revoke == "family" else access
    assert await there.without_asking(token) == f"it is revoked by its {revoke}"


async def test_still_valid_is_not_said_where_it_cannot_be_known_at_once(here: Process) -> None:
    token = await here.jwt.create_access_token("123")
    assert not here.jwt.is_still_valid(token)  # nobody has looked at it yet
    await here.jwt.validate_token(token)
    assert here.jwt.is_still_valid(token)
    here.bus.deaf = True
    here.steady.now += 0.99
    assert here.jwt.is_still_valid(token)
    here.steady.now += 0.02
    assert not here.jwt.is_still_valid(token)


async def test_process_that_hears_nothing_asks_after_a_second(here: Process, there: Process) -> None:
    token = await here.jwt.create_access_token("123")
    there.bus.deaf = True
    await here.jwt.blacklist_token(token)
    there.steady.now += 1.01
    assert "jti" in await refused(there.jwt, token)


async def test_process_that_hears_nothing_asks_once_a_second_and_not_for_each_token(here: Process) -> None:
    token = await here.jwt.create_access_token("123")
    here.bus.deaf = True
    here.steady.now += 50
    assert await verdict(here.jwt, token) == "valid"
    here.parts.database.cut_off = True
    here.steady.now += 0.9
    assert await verdict(here.jwt, token) == "valid"
    here.steady.now += 0.2
    assert await verdict(here.jwt, token) == "unknown"


async def test_revocation_that_cannot_be_announced_is_found_by_the_silence(here: Process, there: Process) -> None:
    token = await here.jwt.create_access_token("123")
    await heard_beats(there, 10)  # of both
    here.bus.mute = True
    await here.jwt.blacklist_token(token)
    there.steady.now += 1.01
    await heard_beats(there, 10)  # its own come through
    assert await there.is_fed() is False
    assert "jti" in await refused(there.jwt, token)


async def test_announcement_is_made_up_for(here: Process, there: Process) -> None:
    tokens = [await here.jwt.create_access_token("123") for _ in range(3)]
    here.bus.mute = True
    for token in tokens:
        await here.jwt.blacklist_token(token)
    here.bus.mute = False

    async def is_refused() -> bool:
        return await verdict(there.jwt, tokens[-1]) != "valid"

    await until(is_refused)
    for token in tokens:
        assert await there.without_asking(token) == "it is revoked by its jti"


async def test_process_that_ends_is_not_waited_for(here: Process, there: Process) -> None:
    token = await there.jwt.create_access_token("123")
    await heard_beats(there, 10)
    await here.jwt.stop()
    assert await there.without_asking(token) == "valid"


async def test_process_that_vanishes_is_waited_for_for_a_minute(here: Process, there: Process) -> None:
    token = await there.jwt.create_access_token("123")
    await heard_beats(there, 10)
    here.bus.mute = True
    there.steady.now += 30
    await heard_beats(there, 5)
    assert await there.is_fed() is False
    assert await verdict(there.jwt, token) == "valid"
    there.steady.now += 31
    await until(there.is_fed)
    assert await there.without_asking(token) == "valid"


@pytest.mark.parametrize("revoke", ["jti", "family", "user", "source"])
async def test_process_that_was_never_heard_is_looked_for_in_the_database(
    parts: Parts, monkeypatch: pytest.MonkeyPatch, revoke: str
) -> None:
    """It cannot announce, and nobody can miss the heartbeats of a process that they do not know."""
    monkeypatch.setattr("base04_builtin.jwt.revocations._RESYNC", 3600)
    there, silent = await Process(parts).start(), Process(parts)
    silent.bus.mute = True
    await silent.start()
    access = await silent.jwt.create_access_token("123", source="api_key:abc")
    pair = await silent.jwt.refresh_token(await silent.jwt.create_refresh_token("123"))
    token = pair["access_token"] if revoke == "family" else access
    assert await verdict(there.jwt, token) == "valid"
    await {
        "jti": lambda: silent.jwt.blacklist_token(access),
        "family": lambda: silent.jwt.blacklist_token(pair["refresh_token"]),
        "user": lambda: silent.jwt.revoke_user_tokens("123"),
        "source": lambda: silent.jwt.revoke_source_tokens("api_key:abc"),
    }[revoke]()

    async def is_refused() -> bool:
        return await verdict(there.jwt, token) == f"it is revoked by its {revoke}"

    await until(is_refused)
    assert await there.is_fed(), "nothing made it doubt what it hears"


async def test_what_a_gap_swallowed_is_read_again(here: Process, there: Process) -> None:
    token = await here.jwt.create_access_token("123")
    there.bus.deaf = True
    await here.jwt.blacklist_token(token)
    await there.bus.come_back()
    await until(there.is_fed)
    assert await there.without_asking(token) == "it is revoked by its jti"


async def test_heartbeats_prove_nothing_after_a_gap_before_the_database_was_read(here: Process, there: Process) -> None:
    token = await here.jwt.create_access_token("123")
    there.bus.deaf = True
    await here.jwt.blacklist_token(token)
    here.parts.database.cut_off = True
    await there.bus.come_back()
    there.steady.now += 2
    await heard_beats(there, 10)
    assert await verdict(there.jwt, token) == "unknown"
    here.parts.database.cut_off = False
    assert "jti" in await refused(there.jwt, token)
    await until(there.is_fed)


async def test_unknown_tokens_are_accepted_where_the_settings_want_it(parts: Parts) -> None:
    here = await Process(parts).start(on_unknown="accept")
    token, revoked = [await here.jwt.create_access_token("123") for _ in range(2)]
    await here.jwt.blacklist_token(revoked)
    here.bus.deaf = parts.database.cut_off = True
    here.steady.now += 100
    assert await verdict(here.jwt, token) == "valid"
    assert "jti" in await refused(here.jwt, revoked)
    report = await here.jwt.health_check()
    assert report["status"] != "healthy"
    assert report["metrics"]["accepted_blindly"] == 2


async def test_unknown_is_told_from_refused(here: Process) -> None:
    token = await here.jwt.create_access_token("123")
    here.bus.deaf = here.parts.database.cut_off = True
    here.steady.now += 100
    for call in (here.jwt.validate_token, here.jwt.is_token_blacklisted, here.jwt.blacklist_token):
        with pytest.raises(ManagerUnavailable, match="cannot be known"):
            await call(token)


async def test_revocation_is_stored_before_it_is_announced(here: Process) -> None:
    stored: list[list[str]] = []

    async def look(channel: str, message: Any) -> None:
        if message["type"] == "revoked":
            stored.append([row["entry"] for row in await here.parts.database.find("base04_jwt_revocations")])

    await here.parts.redis.subscribe(CHANNEL, look)
    token = await here.jwt.create_access_token("123")
    jti = (await here.jwt.validate_token(token))["jti"]
    await here.jwt.blacklist_token(token)
    async with asyncio.timeout(60):
        while not stored:
            await asyncio.sleep(0)
    assert stored == [[f"jti:{jti}"]]


async def test_announcement_holds_no_token(here: Process) -> None:
    announced: list[Any] = []

    async def note(channel: str, message: Any) -> None:
        announced.append(message)

    await here.parts.redis.subscribe(CHANNEL, note)
    token = await here.jwt.create_access_token("123")
    await here.jwt.blacklist_token(token)
    async with asyncio.timeout(60):
        while not any(message["type"] == "revoked" for message in announced):
            await asyncio.sleep(0)
    assert token.split(".")[2] not in repr(announced)
    assert "123" not in {message.get("entry") for message in announced}


@pytest.mark.parametrize("when", ["lost answer", "cancelled"])
async def test_revocation_that_may_have_been_stored_reaches_everybody(here: Process, there: Process, when: str) -> None:
    token = await here.jwt.create_access_token("123")
    if when == "lost answer":
        here.parts.database.lose_answers = True
        with pytest.raises(ManagerUnavailable):
            await here.jwt.blacklist_token(token)
        here.parts.database.lose_answers = False
    else:
        await _cancelled_once_stored(here, token)

    def refuses(process: Process) -> Callable[[], Awaitable[bool]]:
        async def asked() -> bool:
            return await verdict(process.jwt, token) == "it is revoked by its jti"

        return asked

    await until(refuses(here))
    await until(refuses(there))


async def _cancelled_once_stored(process: Process, token: str) -> None:
    revoking = asyncio.create_task(process.jwt.blacklist_token(token))
    async with asyncio.timeout(60):
        while not await process.parts.database.count("base04_jwt_revocations"):
            await asyncio.sleep(0)
    revoking.cancel()
    await asyncio.wait([revoking])


@pytest.mark.parametrize(
    "message",
    [
        None,
        [],
        "revoked",
        {},
        {"type": "revoked"},
        {"type": "revoked", "entry": "jti:", "cutoff": None, "expires_at": NOW + 60},
        {"type": "revoked", "entry": "user:123", "cutoff": None, "expires_at": NOW + 60},
        {"type": "revoked", "entry": "user:123", "cutoff": "now", "expires_at": NOW + 60},
        {"type": "revoked", "entry": "user:123", "cutoff": NOW + 60, "expires_at": 1e300},
        {"type": "revoked", "entry": ["user:123"], "cutoff": NOW + 60, "expires_at": NOW + 60},
        {"type": "beat"},
        {"type": "beat", "from": 1, "number": "1", "keys": "many"},
        {"type": "beat", "from": "somebody", "number": None, "keys": 10**15},
        {"type": "bye"},
        {"type": "resync"},
        {"type": "of a later version"},
    ],
)
async def test_message_that_makes_no_sense_does_no_harm(here: Process, message: Any) -> None:
    token = await here.jwt.create_access_token("123")
    await here.parts.redis.publish(CHANNEL, message)
    await heard_beats(here, 3)
    assert await verdict(here.jwt, token) == "valid"
    assert (await here.parts.redis.health_check())["metrics"]["errors"] == 0
    here.steady.now += 61  # a process that does not exist has been silent for long
    await until(here.is_fed)


async def test_clocks_a_minute_apart_let_no_revoked_token_through(parts: Parts) -> None:
    ahead = await Process(parts, Clock(NOW + 28)).start(leeway=60)
    behind = await Process(parts, Clock(NOW - 28)).start(leeway=60)
    old = await ahead.jwt.create_access_token("123")
    of_source = await ahead.jwt.create_access_token("456", source="api_key:abc")
    assert await verdict(behind.jwt, old) == await verdict(behind.jwt, of_source) == "valid"
    await behind.jwt.revoke_user_tokens("123")
    await behind.jwt.revoke_source_tokens("api_key:abc")
    for process in (ahead, behind):

        async def are_refused(process: Process = process) -> bool:
            return "valid" not in {await verdict(process.jwt, old), await verdict(process.jwt, of_source)}

        await until(are_refused)
    new = [await process.jwt.create_access_token("123", source="api_key:abc") for process in (ahead, behind)]
    for process in (ahead, behind):
        assert [await verdict(process.jwt, token) for token in new] == ["valid", "valid"]
        assert "user" in await refused(process.jwt, old)
    await behind.jwt.revoke_user_tokens("123")
    assert ["user" in await refused(behind.jwt, token) for token in new] == [True, True]


async def test_sweep_by_a_clock_ahead_revives_nothing(parts: Parts) -> None:
    here = await Process(parts).start(access_ttl=60, leeway=5)
    ahead = await Process(parts, Clock(NOW + 120)).start(access_ttl=60, leeway=5)
    token = await here.jwt.create_access_token("123")
    await here.jwt.blacklist_token(token)
    await ahead.jwt.sweep()
    restarted = await Process(parts).start(access_ttl=60, leeway=5)
    assert "jti" in await refused(restarted.jwt, token)


async def test_ended_revocations_leave_the_memory(parts: Parts) -> None:
    here = await Process(parts).start(access_ttl=60, leeway=5, refresh_ttl=100)
    for number in range(20):
        await here.jwt.blacklist_token(await here.jwt.create_access_token(str(number)))
    await here.jwt.revoke_user_tokens("123")
    assert (await here.jwt.health_check())["metrics"]["revocations"] == 21
    parts.clock.now = NOW + 70
    await here.jwt.sweep()
    assert (await here.jwt.health_check())["metrics"]["revocations"] == 1
    parts.clock.now = NOW + 110
    await here.jwt.sweep()
    assert (await here.jwt.health_check())["metrics"]["revocations"] == 0


async def test_token_issued_after_a_restart_is_not_taken_for_an_old_one(parts: Parts) -> None:
    await (await Process(parts).start()).jwt.revoke_user_tokens("123")
    parts.clock.now += 5
    restarted = await parts.start()
    assert await verdict(restarted, await restarted.create_access_token("123")) == "valid"
    assert (await restarted.refresh_token(await restarted.create_refresh_token("123")))["token_type"] == "Bearer"


async def test_no_task_is_left_behind(here: Process) -> None:
    await here.jwt.stop()
    assert not {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("jwt-")}
