"""The provider ``database`` of the role ``api_key``."""

from __future__ import annotations

import asyncio
import hmac
import re
import string
import zlib
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from structlog.testing import capture_logs

from base04.testing.conformance.api_key import ApiKeyConformance
from base04_builtin.api_key import api_key_providers, key_text
from base04_builtin.api_key.database import VAULT_KEY, VAULT_PATH, ApiKeySettings, DatabaseApiKeyManager
from base04_builtin.database.sqlite.manager import SqliteDatabaseManager
from base04_builtin.database.sqlite.settings import SqliteSettings
from base04_builtin.jwt.settings import JWTSettings
from base04_builtin.jwt.signed import SignedJWTManager
from base04_builtin.redis.memory import MemoryRedisManager, MemoryRedisSettings
from base04_builtin.vault.file import FileVaultManager, FileVaultSettings
from base04_hookspecs.context import ANONYMOUS, Principal, RequestContext, use_request
from base04_hookspecs.database import Operation
from base04_hookspecs.errors import (
    ConfigurationError,
    ExpiredApiKey,
    InvalidApiKey,
    InvalidInput,
    InvalidToken,
    MalformedApiKey,
    ManagerUnavailable,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
    RevokedApiKey,
    UnknownApiKey,
)

NOW = 1_800_000_000.0
ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase


@dataclass
class Clock:
    """A clock that the test sets."""

    now: float = NOW

    def __call__(self) -> float:
        return self.now


class WatchedDatabase(SqliteDatabaseManager):
    """SQLite that counts, can be cut off, and can make a look-up wait for the test."""

    cut_off = lose_answers = False
    whole = True
    finds = 0
    updates = 0
    gate: asyncio.Event | None = None
    at_gate: asyncio.Event

    async def find(self, *args: Any, **kwargs: Any) -> list[dict[str, Any]]:
        self._fail()
        self.finds += 1
        rows = await super().find(*args, **kwargs)
        if self.gate is not None:
            self.at_gate.set()
            await self.gate.wait()
        return rows

    async def execute_transaction(self, operations: Sequence[Operation]) -> bool:
        self._fail()
        self.updates += sum(set(operation.get("data", ())) == {"last_used_at", "use_count"} for operation in operations)
        done = await super().execute_transaction(operations)
        if self.lose_answers:
            raise OutcomeUnknown("The test has lost the answer.")
        return done

    def supports_transactions(self) -> bool:
        return self.whole

    def _fail(self) -> None:
        if self.cut_off:
            raise ManagerUnavailable("The database has been cut off by the test.")


@dataclass
class Parts:
    """What the manager depends on, and managers that share it as processes would."""

    database: WatchedDatabase
    redis: MemoryRedisManager
    vault: FileVaultManager
    clock: Clock
    managers: list[DatabaseApiKeyManager | SignedJWTManager] = field(default_factory=list)

    async def start(self, jwt: SignedJWTManager | None = None, **settings: Any) -> DatabaseApiKeyManager:
        manager = DatabaseApiKeyManager(ApiKeySettings(**settings), self.database, self.vault, jwt, clock=self.clock)
        self.managers.insert(0, manager)
        await manager.start()
        return manager

    async def start_jwt(self) -> SignedJWTManager:
        manager = SignedJWTManager(JWTSettings(), self.database, self.redis, self.vault, clock=self.clock)
        self.managers.append(manager)
        await manager.start()
        return manager


@asynccontextmanager
async def open_parts(folder: Path) -> AsyncIterator[Parts]:
    parts = Parts(
        WatchedDatabase(SqliteSettings(path=folder / "test.sqlite3", synchronous="NORMAL")),
        MemoryRedisManager(MemoryRedisSettings()),
        FileVaultManager(FileVaultSettings(path=folder / "secrets.json")),
        Clock(),
    )
    dependencies = (parts.database, parts.redis, parts.vault)
    try:
        for dependency in dependencies:
            await dependency.start()
        yield parts
    finally:
        parts.database.cut_off, parts.database.lose_answers, parts.database.gate = False, False, None
        for manager in (*parts.managers, *dependencies):
            await manager.stop()


@pytest.fixture
async def parts(tmp_path: Path) -> AsyncIterator[Parts]:
    async with open_parts(tmp_path) as parts:
        yield parts


@pytest.fixture
async def keys(parts: Parts) -> DatabaseApiKeyManager:
    return await parts.start()


class TestDatabaseApiKeyConformance(ApiKeyConformance):
    capabilities = next(iter(api_key_providers())).capabilities

    @pytest.fixture(params=["with jwt", "alone"])
    async def manager(self, parts: Parts, request: pytest.FixtureRequest) -> DatabaseApiKeyManager:
        tokens = await parts.start_jwt() if request.param == "with jwt" else None
        manager = DatabaseApiKeyManager(ApiKeySettings(), parts.database, parts.vault, tokens)
        parts.managers.insert(0, manager)
        await manager.start()
        return manager


async def reason_against(keys: DatabaseApiKeyManager, key: str) -> str:
    with pytest.raises(InvalidApiKey) as caught:
        await keys.validate_api_key(key)
    assert key not in caught.value.reason
    return caught.value.reason


# The text of a key


async def test_key_looks_as_scanners_expect(keys: DatabaseApiKeyManager) -> None:
    made = {await keys.generate_api_key("123") for _ in range(50)}
    assert len(made) == 50
    assert all(re.fullmatch(r"b04_[0-9A-Za-z]{48}", key) for key in made)
    for key in made:
        assert (await keys.get_api_key_info(key))["key_id"] == key[4:16]


async def test_every_change_of_every_character_is_refused_without_a_look_up(
    parts: Parts, keys: DatabaseApiKeyManager
) -> None:
    key = await keys.generate_api_key("123")
    before = parts.database.finds
    for place, right in enumerate(key):
        for char in ALPHABET + "_-é ":
            if char != right:
                reason = await reason_against(keys, key[:place] + char + key[place + 1 :])
                assert reason == "it is malformed, or its checksum is wrong"
    assert parts.database.finds == before


@pytest.mark.parametrize("change", ["swap", "drop", "double", "space", "newline", "case", "prefix"])
async def test_usual_slips_are_refused_without_a_look_up(
    parts: Parts, keys: DatabaseApiKeyManager, change: str
) -> None:
    key = await keys.generate_api_key("123")
    changed = {
        "swap": key[:20] + key[21] + ("a" if key[20] == key[21] else key[20]) + key[22:],
        "drop": key[:-1],
        "double": key + key[-1],
        "space": " " + key,
        "newline": key + "\n",
        "case": key.swapcase(),
        "prefix": "ghp_" + key[4:],
    }[change]
    before = parts.database.finds
    await reason_against(keys, changed)
    assert parts.database.finds == before


@pytest.mark.parametrize("key", [None, 1, b"b04_", ["b04_"]])
async def test_value_that_is_no_string_is_refused(keys: DatabaseApiKeyManager, key: Any) -> None:
    with pytest.raises(InvalidApiKey):
        await keys.validate_api_key(key)


# What is stored


async def test_key_and_pepper_are_not_in_the_database(parts: Parts, keys: DatabaseApiKeyManager) -> None:
    key = await keys.generate_api_key("123", name="deploy")
    pepper = await parts.vault.get_secret_value(VAULT_PATH, VAULT_KEY)
    (row,) = await parts.database.find("base04_api_keys")
    assert row["key_id"] == key[4:16]
    assert key[16:40] not in repr(row)
    assert pepper not in repr(row)


async def test_wrong_secret_for_a_known_id_is_refused(parts: Parts, keys: DatabaseApiKeyManager) -> None:
    first, second = await keys.generate_api_key("123"), await keys.generate_api_key("123")
    await parts.database.execute_transaction(
        [
            {"type": "delete", "table": "base04_api_keys", "where": {"key_id": first[4:16]}},
            {
                "type": "update",
                "table": "base04_api_keys",
                "data": {"key_id": first[4:16]},
                "where": {"user_id": "123"},
            },
        ]
    )
    assert await reason_against(keys, first) == "it is not known"
    assert await reason_against(keys, second) == "it is not known"
    with pytest.raises(NotFound):
        await keys.get_api_key_info(first)
    assert await keys.revoke_api_key(first) is False


async def test_wrong_key_costs_the_same_work_however_much_of_it_is_right(
    parts: Parts, keys: DatabaseApiKeyManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is compared are whole digests, so that how long it takes says nothing of how far a guess was right."""
    work: list[tuple[str, int]] = []
    compare = hmac.compare_digest

    def digest_of(key: str, pepper: bytes) -> str:
        work.append(("digest", len(key)))
        return key_text.digest_of(key, pepper)

    def compare_digest(expected: str, given: str) -> bool:
        work.append(("compare", len(expected)))
        return compare(expected, given)

    async def done_for(key: str) -> list[tuple[str, int]]:
        work.clear()
        finds = parts.database.finds
        await reason_against(keys, key)
        return [*work, ("finds", parts.database.finds - finds)]

    keys = await parts.start(cache_max_age=0)
    key = await keys.generate_api_key("123")
    monkeypatch.setattr("base04_builtin.api_key.database.digest_of", digest_of)
    monkeypatch.setattr("base04_builtin.api_key.database.hmac.compare_digest", compare_digest)
    wrong = [sealed(key[:place] + ("x" if key[place] != "x" else "y") * (46 - place)) for place in range(4, 46)]
    assert [len(guess) for guess in wrong] == [len(key)] * 42
    found = [await done_for(guess) for guess in wrong]
    assert found == [[("digest", 52), ("compare", 64), ("finds", 1)]] * 42


def sealed(body: str) -> str:
    """Return a key whose checksum is right."""
    number, digits = zlib.crc32(body.encode()), ""
    for _ in range(6):
        number, digit = divmod(number, 62)
        digits = ALPHABET[digit] + digits
    return body + digits


async def test_error_says_which_check_failed_and_the_client_hears_the_same(
    parts: Parts, keys: DatabaseApiKeyManager
) -> None:
    revoked, ending = await keys.generate_api_key("123"), await keys.generate_api_key("123", expires_in=60)
    await keys.revoke_api_key(revoked)
    parts.clock.now = NOW + 60
    unknown = sealed("b04_" + "0" * 42)
    cases = [
        (MalformedApiKey, unknown[:-1]),
        (UnknownApiKey, unknown),
        (RevokedApiKey, revoked),
        (ExpiredApiKey, ending),
    ]
    for kind, key in cases:
        with pytest.raises(kind, match=r"^invalid API key$"):
            await keys.validate_api_key(key)


async def test_another_pepper_makes_keys_unknown(parts: Parts, keys: DatabaseApiKeyManager) -> None:
    key = await keys.generate_api_key("123")
    await parts.vault.set_secret_value(VAULT_PATH, VAULT_KEY, "A" * 43 + "=")
    assert await reason_against(await parts.start(), key) == "it is not known"
    assert (await keys.validate_api_key(key))["user_id"] == "123"


@pytest.mark.parametrize("kept", ["canary", "c2hvcnQ=", "", "canaryé"])
async def test_unusable_pepper_is_refused_without_showing_it(parts: Parts, kept: str) -> None:
    await parts.vault.set_secret_value(VAULT_PATH, VAULT_KEY, kept)
    with pytest.raises(ConfigurationError, match="pepper") as caught:
        await parts.start()
    assert caught.value.__cause__ is None
    assert not kept or kept not in repr(caught.value)


async def test_keys_and_pepper_are_shown_nowhere(parts: Parts) -> None:
    with capture_logs() as entries:
        keys = await parts.start()
        key = await keys.generate_api_key("123", ["read"])
        rolled = await keys.roll_api_key(key, overlap=60)
        await keys.validate_api_key(rolled)
        await keys.revoke_api_key(rolled)
        with pytest.raises(InvalidApiKey) as caught:
            await keys.validate_api_key(rolled)
        with pytest.raises(NotFound) as missing:
            await keys.roll_api_key(rolled)
        shown: list[object] = [repr(keys), repr(caught.value), caught.value.reason, repr(missing.value), entries]
        shown += [await keys.health_check(), await keys.list_api_keys(include_revoked=True)]
    pepper = await parts.vault.get_secret_value(VAULT_PATH, VAULT_KEY)
    assert {"API key created", "API key rolled", "API key revoked"} <= {entry["event"] for entry in entries}
    for secret in (key, key[16:], rolled, rolled[16:], pepper):
        assert secret not in repr(shown)


async def test_keys_survive_a_restart(parts: Parts, keys: DatabaseApiKeyManager) -> None:
    key = await keys.generate_api_key("123", ["read"], rate_limit="5/10 seconds")
    await keys.stop()
    info = await (await parts.start()).validate_api_key(key)
    assert (info["permissions"], info["rate_limit"], info["created_at"]) == (["read"], "5/10 seconds", NOW)


# Times


async def test_key_ends_when_it_expires(parts: Parts, keys: DatabaseApiKeyManager) -> None:
    key = await keys.generate_api_key("123", expires_in=60)
    parts.clock.now = NOW + 59
    assert (await keys.validate_api_key(key))["expires_at"] == NOW + 60
    parts.clock.now = NOW + 60
    assert await reason_against(keys, key) == f"it has expired (key id {key[4:16]})"
    assert (await keys.get_api_key_info(key))["revoked_at"] is None
    with pytest.raises(NotFound, match="expired"):
        await keys.roll_api_key(key)


async def test_rolled_key_goes_on_for_the_overlap(parts: Parts, keys: DatabaseApiKeyManager) -> None:
    old = await keys.generate_api_key("123")
    new = await keys.roll_api_key(old, overlap=60)
    parts.clock.now = NOW + 59
    await keys.validate_api_key(old)
    parts.clock.now = NOW + 60
    assert "expired" in await reason_against(keys, old)
    assert (await keys.validate_api_key(new))["expires_at"] is None


async def test_roll_never_extends_a_life(keys: DatabaseApiKeyManager) -> None:
    old = await keys.generate_api_key("123", expires_in=60)
    new = await keys.roll_api_key(old, overlap=3600)
    assert (await keys.get_api_key_info(old))["expires_at"] == NOW + 60
    assert (await keys.get_api_key_info(new))["expires_at"] == NOW + 60


async def test_key_is_rolled_once(keys: DatabaseApiKeyManager) -> None:
    old = await keys.generate_api_key("123")
    outcomes = await asyncio.gather(*(keys.roll_api_key(old, overlap=60) for _ in range(4)), return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Conflict"] * 3 + ["str"]
    assert len(await keys.list_api_keys()) == 2


@pytest.mark.parametrize("overlap", [-1, float("nan"), float("inf"), "60", None, True])
async def test_malformed_overlap_is_refused(keys: DatabaseApiKeyManager, overlap: Any) -> None:
    key = await keys.generate_api_key("123")
    with pytest.raises(InvalidInput):
        await keys.roll_api_key(key, overlap=overlap)
    assert (await keys.validate_api_key(key))["user_id"] == "123"


# Permissions


@pytest.mark.parametrize("source", ["http", "websocket", "action"])
async def test_anonymous_caller_can_give_nothing(
    keys: DatabaseApiKeyManager, source: Literal["http", "websocket", "action"]
) -> None:
    with use_request(RequestContext("r1", ANONYMOUS, source=source)):
        with pytest.raises(PermissionDenied):
            await keys.generate_api_key("123", ["read"])
        assert (await keys.get_api_key_info(await keys.generate_api_key("123")))["permissions"] == []


async def test_program_can_give_everything(keys: DatabaseApiKeyManager) -> None:
    with use_request(RequestContext("r1")):
        key = await keys.generate_api_key("123", ["*"])
    assert (await keys.validate_api_key(key))["permissions"] == ["*"]


async def test_caller_cannot_roll_a_key_that_grants_more(keys: DatabaseApiKeyManager) -> None:
    strong = await keys.generate_api_key("root", ["*"])
    caller = RequestContext("r1", Principal("123", ("users.*",), "api_key"), source="http")
    with use_request(caller), pytest.raises(PermissionDenied):
        await keys.roll_api_key(strong[4:16])
    assert (await keys.validate_api_key(strong))["user_id"] == "root"


def let_in_by(key: str, *permissions: str) -> use_request:
    return use_request(
        RequestContext("r1", Principal("123", permissions, "api_key", api_key_id=key[4:16]), source="http")
    )


async def test_key_makes_none_that_outlives_it(parts: Parts, keys: DatabaseApiKeyManager) -> None:
    maker, lasting = await keys.generate_api_key("123", ["*"], expires_in=60), await keys.generate_api_key("123")
    with let_in_by(maker, "*"):
        parts.clock.now = NOW + 20
        assert (await keys.get_api_key_info(await keys.generate_api_key("123")))["expires_at"] == NOW + 60
        sooner = await keys.generate_api_key("123", expires_in=40)
        assert (await keys.get_api_key_info(sooner))["expires_at"] == NOW + 60
        for call in (keys.generate_api_key("123", expires_in=40.5), keys.roll_api_key(lasting)):
            with pytest.raises(PermissionDenied, match="outlives"):
                await call
        assert (await keys.get_api_key_info(await keys.roll_api_key(maker, overlap=5)))["expires_at"] == NOW + 60
    assert (await keys.validate_api_key(lasting))["expires_at"] is None


async def test_key_without_an_end_makes_others_without_one(keys: DatabaseApiKeyManager) -> None:
    maker = await keys.generate_api_key("123", ["*"])
    with let_in_by(maker, "*"):
        assert (await keys.get_api_key_info(await keys.generate_api_key("123")))["expires_at"] is None


async def test_revoked_key_makes_no_other(keys: DatabaseApiKeyManager) -> None:
    maker = await keys.generate_api_key("123", ["*"])
    with let_in_by(maker, "*"):  # a request, or a token of the key, that began before
        await keys.revoke_api_key(maker)
        with pytest.raises(PermissionDenied, match="not valid any more"):
            await keys.generate_api_key("123")


async def test_permissions_are_kept_once_and_in_order(keys: DatabaseApiKeyManager) -> None:
    key = await keys.generate_api_key("123", ["b", "a", "b", "users.*", "*"])
    assert (await keys.validate_api_key(key))["permissions"] == ["b", "a", "users.*", "*"]


@pytest.mark.parametrize("permissions", ["read", b"read", {"read"}, 5, [1], [None], ["x" * 129], ["x"] * 257])
async def test_permissions_of_another_kind_are_refused(keys: DatabaseApiKeyManager, permissions: Any) -> None:
    with pytest.raises(InvalidInput):
        await keys.generate_api_key("123", permissions)


async def test_all_malformed_permissions_are_listed(keys: DatabaseApiKeyManager) -> None:
    with pytest.raises(InvalidInput) as caught:
        await keys.generate_api_key("123", ["ok", "not ok", "fine.*", "*bad"])
    assert [fault.pointer for fault in caught.value.faults] == ["/1", "/3"]


@pytest.mark.parametrize("text", ["x" * 256, "a\nb", "\ud800", 5])
async def test_unusable_texts_are_refused(keys: DatabaseApiKeyManager, text: Any) -> None:
    with pytest.raises(InvalidInput):
        await keys.generate_api_key(text)
    with pytest.raises(InvalidInput):
        await keys.generate_api_key("123", name=text)


@pytest.mark.parametrize("page", [{"limit": -1}, {"offset": -1}, {"limit": 1.5}, {"limit": True}])
async def test_malformed_page_is_refused(keys: DatabaseApiKeyManager, page: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        await keys.list_api_keys(**page)


# Looking up


async def test_validation_looks_up_seldom(parts: Parts) -> None:
    keys = await parts.start(cache_max_age=60)
    key = await keys.generate_api_key("123")
    before = parts.database.finds
    for _ in range(20):
        await keys.validate_api_key(key)
    assert parts.database.finds == before + 1
    await keys.update_api_key_permissions(key, ["new"])
    assert (await keys.validate_api_key(key))["permissions"] == ["new"]


async def test_cached_key_is_still_compared(parts: Parts) -> None:
    keys = await parts.start(cache_max_age=60)
    key = await keys.generate_api_key("123")
    await keys.validate_api_key(key)
    await reason_against(keys, key[:-1] + ("x" if key[-1] != "x" else "y"))
    assert (await keys.health_check())["metrics"]["cached"] == 1


async def test_cache_is_bounded(parts: Parts) -> None:
    keys = await parts.start(cache_max_age=60, cache_size=3)
    made = [await keys.generate_api_key("123") for _ in range(6)]
    for key in made:
        await keys.validate_api_key(key)
    assert (await keys.health_check())["metrics"]["cached"] == 3


async def test_look_up_that_began_before_a_revocation_leaves_nothing_behind(parts: Parts) -> None:
    keys = await parts.start(cache_max_age=60)
    key = await keys.generate_api_key("123")
    parts.database.gate, parts.database.at_gate = gate, at_gate = asyncio.Event(), asyncio.Event()
    validating = asyncio.create_task(keys.validate_api_key(key))
    await at_gate.wait()  # the row has been read, and is not handed over yet
    parts.database.gate = None
    assert await keys.revoke_api_key(key) is True
    gate.set()
    assert (await validating)["revoked_at"] is None
    assert "revoked" in await reason_against(keys, key)


async def test_revocation_by_another_process_is_seen_without_a_cache(parts: Parts) -> None:
    here, there = await parts.start(cache_max_age=0), await parts.start()
    key = await here.generate_api_key("123")
    await here.validate_api_key(key)
    await there.revoke_api_key(key)
    assert "revoked" in await reason_against(here, key)


async def test_look_up_that_fails_is_no_invalid_key(parts: Parts, keys: DatabaseApiKeyManager) -> None:
    key = await keys.generate_api_key("123")
    parts.database.cut_off = True
    with pytest.raises(ManagerUnavailable):
        await keys.validate_api_key(key)
    with pytest.raises(ManagerUnavailable):
        await keys.revoke_api_key(key)
    parts.database.cut_off = False
    assert (await keys.validate_api_key(key))["user_id"] == "123"


# Last use


async def stored(parts: Parts, key: str) -> tuple[float | None, int | None]:
    """Return when the database says that a key was last used, and how often."""
    (row,) = await parts.database.find("base04_api_keys", {"key_id": key[4:16]})
    return row["last_used_at"], row["use_count"]


async def test_last_uses_are_stored_in_batches_and_at_the_end(parts: Parts) -> None:
    keys = await parts.start(usage_interval=3600)
    key = await keys.generate_api_key("123")
    for second in range(50):
        parts.clock.now = NOW + second
        await keys.validate_api_key(key)
    assert parts.database.updates == 0
    assert (await keys.get_api_key_info(key))["last_used_at"] == NOW + 49
    assert (await keys.get_api_key_info(key))["use_count"] == 50
    assert await stored(parts, key) == (None, 0)
    await keys.stop()
    assert parts.database.updates == 1
    assert await stored(parts, key) == (NOW + 49, 50)


async def test_last_uses_are_stored_in_the_background(parts: Parts) -> None:
    keys = await parts.start(usage_interval=0.001)
    key = await keys.generate_api_key("123")
    await keys.validate_api_key(key)
    async with asyncio.timeout(30):
        while await stored(parts, key) != (NOW, 1):
            pass
    assert (await keys.get_api_key_info(key))["use_count"] == 1


async def test_last_uses_that_find_no_room_are_counted(parts: Parts) -> None:
    keys = await parts.start(usage_interval=3600, usage_size=2)
    for _ in range(5):
        await keys.validate_api_key(await keys.generate_api_key("123"))
    metrics = (await keys.health_check())["metrics"]
    assert (metrics["usage_waiting"], metrics["usage_dropped"]) == (2, 3)


async def test_last_uses_wait_while_the_database_is_away(parts: Parts) -> None:
    keys = await parts.start(usage_interval=0.001)
    key = await keys.generate_api_key("123")
    await keys.validate_api_key(key)
    parts.database.cut_off = True
    with capture_logs() as entries:
        async with asyncio.timeout(30):
            while not entries:
                await parts.database.check_connection()
    assert entries[0]["event"] == "uses of API keys not stored"
    assert (await keys.health_check())["metrics"]["usage_dropped"] == 0
    parts.database.cut_off = False
    await keys.stop()
    assert await stored(parts, key) == (NOW, 1)


async def test_last_uses_that_are_lost_at_the_end_are_reported(parts: Parts) -> None:
    keys = await parts.start(usage_interval=3600)
    key = await keys.generate_api_key("123")
    for _ in range(3):
        await keys.validate_api_key(key)
    parts.database.cut_off = True
    with capture_logs() as entries:
        await keys.stop()
    (lost,) = [entry for entry in entries if entry["event"] == "uses of API keys lost"]
    assert (lost["keys"], lost["uses"]) == (1, 3)
    assert (await keys.health_check())["metrics"]["usage_dropped"] == 3


async def test_uses_by_several_processes_add_up(parts: Parts) -> None:
    processes = [await parts.start(usage_interval=0.001) for _ in range(4)]
    made = [await processes[0].generate_api_key("123") for _ in range(5)]

    async def use(keys: DatabaseApiKeyManager) -> None:
        for number in range(20):
            for key in made:
                await keys.validate_api_key(key)
            if number % 3 == 0:
                await keys.list_api_keys()  # lets the others, and those who store, have their turn

    await asyncio.gather(*(use(keys) for keys in processes))
    for keys in processes:
        await keys.stop()
    assert [await stored(parts, key) for key in made] == [(NOW, 80)] * 5


async def test_moment_of_the_last_use_never_goes_back(parts: Parts) -> None:
    ahead, behind = [await parts.start(usage_interval=3600) for _ in range(2)]
    key = await ahead.generate_api_key("123")
    await behind.validate_api_key(key)
    parts.clock.now = NOW + 50
    await ahead.validate_api_key(key)
    await ahead.stop()
    await behind.stop()
    assert await stored(parts, key) == (NOW + 50, 2)


async def test_uses_that_may_be_stored_are_not_counted_twice(parts: Parts) -> None:
    keys = await parts.start(usage_interval=3600)
    key = await keys.generate_api_key("123")
    await keys.validate_api_key(key)
    parts.database.lose_answers = True
    with capture_logs() as entries:
        await keys.stop()
    assert "uses of API keys perhaps not stored" in {entry["event"] for entry in entries}
    assert (await keys.health_check())["metrics"]["usage_dropped"] == 1
    assert await stored(parts, key) == (NOW, 1)


@pytest.mark.parametrize("whole", [True, False])
async def test_more_keys_than_fit_into_a_batch_are_stored(parts: Parts, whole: bool) -> None:
    parts.database.whole = whole
    keys = await parts.start(usage_interval=3600)
    made = [await keys.generate_api_key("123") for _ in range(250)]
    for key in made:
        await keys.validate_api_key(key)
    await keys.stop()
    assert parts.database.updates == 250
    assert {await stored(parts, key) for key in made} == {(NOW, 1)}


async def test_keys_from_before_uses_were_counted_are_counted_from_now_on(parts: Parts) -> None:
    keys = await parts.start(usage_interval=3600)
    key = await keys.generate_api_key("123")
    update: Operation = {"type": "update", "table": "base04_api_keys", "data": {"use_count": None}}
    await parts.database.execute_transaction([update])
    assert (await keys.get_api_key_info(key))["use_count"] == 0
    assert (await keys.validate_api_key(key))["use_count"] == 1
    await keys.stop()
    assert await stored(parts, key) == (NOW, 1)


async def test_stop_is_safe_without_a_start_and_leaves_no_task(parts: Parts) -> None:
    keys = await parts.start()
    await keys.stop()
    await keys.stop()
    assert "api-key-usage" not in {task.get_name() for task in asyncio.all_tasks()}
    await DatabaseApiKeyManager(ApiKeySettings(), parts.database, parts.vault, None).stop()


# Tokens that were had for a key


@pytest.fixture
async def jwt(parts: Parts) -> SignedJWTManager:
    return await parts.start_jwt()


async def token_for(jwt: SignedJWTManager, key: str) -> Mapping[str, Any]:
    return await jwt.refresh_token(await jwt.create_refresh_token("123", source=f"api_key:{key[4:16]}"))


async def test_token_of_a_key_gets_the_present_permissions(parts: Parts, jwt: SignedJWTManager) -> None:
    keys = await parts.start(jwt)
    key = await keys.generate_api_key("123", ["read"], rate_limit="20/minute")
    pair = await token_for(jwt, key)
    payload = await jwt.validate_token(pair["access_token"])
    assert (payload["permissions"], payload["rate_limit"]) == (["read"], "20/minute")
    assert payload["api_key_id"] == key[4:16]
    assert payload["exp"] == NOW + 901
    await keys.update_api_key_permissions(key, ["write"])
    payload = await jwt.validate_token((await jwt.refresh_token(pair["refresh_token"]))["access_token"])
    assert payload["permissions"] == ["write"]


async def test_token_of_a_key_ends_with_it(parts: Parts, jwt: SignedJWTManager) -> None:
    keys = await parts.start(jwt)
    key = await keys.generate_api_key("123", expires_in=60)
    pair = await token_for(jwt, key)
    assert (await jwt.validate_token(pair["access_token"]))["exp"] == NOW + 60
    lasting = await keys.generate_api_key("123")
    before = await token_for(jwt, lasting)
    await keys.roll_api_key(lasting, overlap=30)
    assert (await jwt.validate_token((await token_for(jwt, lasting))["access_token"]))["exp"] == NOW + 30
    parts.clock.now = NOW + 66
    for token in (pair["access_token"], before["refresh_token"]):
        with pytest.raises(InvalidToken):
            await (jwt.validate_token if token == pair["access_token"] else jwt.refresh_token)(token)


async def test_revoked_key_takes_its_tokens_along(parts: Parts, jwt: SignedJWTManager) -> None:
    keys = await parts.start(jwt)
    key, other = await keys.generate_api_key("123"), await keys.generate_api_key("123")
    pair, other_pair = await token_for(jwt, key), await token_for(jwt, other)
    assert await keys.revoke_api_key(key) is True
    with pytest.raises(InvalidToken):
        await jwt.validate_token(pair["access_token"])
    with pytest.raises(InvalidToken):
        await jwt.refresh_token(pair["refresh_token"])
    with pytest.raises(InvalidToken) as caught:
        await token_for(jwt, key)
    assert "revoked" in caught.value.reason
    assert (await jwt.validate_token(other_pair["access_token"]))["user_id"] == "123"


async def test_rolled_key_takes_its_tokens_along(parts: Parts, jwt: SignedJWTManager) -> None:
    keys = await parts.start(jwt)
    key = await keys.generate_api_key("123")
    pair = await token_for(jwt, key)
    await keys.roll_api_key(key)
    with pytest.raises(InvalidToken):
        await jwt.validate_token(pair["access_token"])


async def test_tokens_that_could_not_be_revoked_are_revoked_by_another_try(parts: Parts, jwt: SignedJWTManager) -> None:
    class Failing(SignedJWTManager):
        failing = True

        async def revoke_source_tokens(self, source: str) -> bool:
            if self.failing:
                raise ManagerUnavailable("The test cut it off.")
            return await super().revoke_source_tokens(source)

    tokens = Failing(JWTSettings(), parts.database, parts.redis, parts.vault, clock=parts.clock)
    parts.managers.append(tokens)
    await tokens.start()
    keys = await parts.start(tokens)
    key = await keys.generate_api_key("123")
    pair = await token_for(tokens, key)
    with pytest.raises(ManagerUnavailable):
        await keys.revoke_api_key(key)
    assert "revoked" in await reason_against(keys, key)
    tokens.failing = False
    assert await keys.revoke_api_key(key) is False
    with pytest.raises(InvalidToken):
        await tokens.validate_token(pair["access_token"])


async def test_token_of_an_expired_unknown_or_foreign_key_is_not_refreshed(parts: Parts, jwt: SignedJWTManager) -> None:
    keys = await parts.start(jwt)
    key = await keys.generate_api_key("123", expires_in=60)
    pair = await token_for(jwt, key)
    foreign = await keys.generate_api_key("456")
    for wrong in (foreign, "b04_" + "0" * 48):
        with pytest.raises(InvalidToken, match="invalid token"):
            await token_for(jwt, wrong)
    parts.clock.now = NOW + 60
    with pytest.raises(InvalidToken) as caught:
        await jwt.refresh_token(pair["refresh_token"])
    assert "expired" in caught.value.reason
