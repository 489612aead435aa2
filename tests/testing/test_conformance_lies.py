"""Every suite fails a provider that declares what it lacks, and one that has what it does not declare.

The liars are the embedded providers behind fakes, which their suites pass; each has one capability too many or too few
in what it says, or has lost one that it goes on declaring. Their tests run in a pytest of their own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest

from base04.testing.conformance.action_discovery import ActionDiscoveryConformance
from base04.testing.conformance.api_key import ApiKeyConformance
from base04.testing.conformance.database import DatabaseConformance
from base04.testing.conformance.declared import DeclaredCapabilities
from base04.testing.conformance.executor import ExecutorConformance
from base04.testing.conformance.hooks import HooksConformance
from base04.testing.conformance.jwt import JWTConformance
from base04.testing.conformance.module import ModuleConformance
from base04.testing.conformance.rate_limiter import RateLimiterConformance
from base04.testing.conformance.redis import RedisConformance
from base04.testing.conformance.services import ServicesConformance
from base04.testing.conformance.state import StateConformance
from base04.testing.conformance.vault import VaultConformance
from base04.testing.conformance.websocket import WebSocketConformance
from base04_hookspecs.roles import ROLES
from testing_kit import Project

SUITES: dict[str, type[DeclaredCapabilities]] = {
    "action_discovery": ActionDiscoveryConformance,
    "api_key": ApiKeyConformance,
    "database": DatabaseConformance,
    "executor": ExecutorConformance,
    "hooks": HooksConformance,
    "jwt": JWTConformance,
    "module": ModuleConformance,
    "rate_limiter": RateLimiterConformance,
    "redis": RedisConformance,
    "services": ServicesConformance,
    "state": StateConformance,
    "vault": VaultConformance,
    "websocket": WebSocketConformance,
}

HEAD = """
    import sys

    sys.path.insert(0, {tests!r})

    import redis_kit
    import test_fakes_conformance as honest
    import websocket_kit
    import pytest
    from base04.testing.conformance.websocket_shared import SharedWebSocketConformance
    from base04_hookspecs.errors import NotSupported

    ALWAYS = 1_000_000


    def says(of, capabilities, *tests, lose=None):
        \"\"\"Return some tests of an honest suite, for a provider that declares other capabilities.\"\"\"
        every = {{name: None for name in dir(of) if name.startswith("test_") and name not in tests}}
        body = {{**every, "capabilities": frozenset(capabilities), "__module__": __name__}}
        if lose is not None:
            fixture = "executor" if hasattr(of, "executor") else "manager"

            @pytest.fixture(autouse=True)
            def crippled(self, request):
                lose(request.getfixturevalue(fixture))

            body["crippled"] = crippled
        assert all(hasattr(of, name) for name in tests), tests
        return type("TestLiar", (of,), body)


    def refusing(*methods):
        def lose(fake):
            for method in methods:
                fake.fail_next(method, NotSupported, times=ALWAYS)

        return lose


    def replacing(**methods):
        def lose(fake):
            for name, make in methods.items():
                setattr(fake, name, make(getattr(fake, name)))

        return lose
"""

LIES = """
    # What is declared and missing

    Redis, redis = honest.TestFakeRedis, honest.TestFakeRedis.capabilities
    TestRedisClaimsShared = says(Redis, redis | {"shared"}, "test_processes_see_the_same_values_if_declared")
    TestRedisClaimsPersistent = says(Redis, redis | {"persistent"}, "test_values_outlive_the_process_if_declared")

    Executor, executor = honest.TestFakeExecutor, honest.TestFakeExecutor.capabilities
    PRIORITY = "test_highest_priority_is_next_and_equal_ones_keep_their_order"
    TestExecutorClaimsDurable = says(
        Executor, executor | {"durable"}, "test_what_was_submitted_outlives_the_process_if_declared"
    )


    def without_priority(submit):
        async def submit_alike(job):
            await submit({**job, "priority": 0})

        return submit_alike


    TestExecutorClaimsPriorities = says(Executor, executor, PRIORITY, lose=replacing(submit=without_priority))

    Jwt, jwt = honest.TestFakeJWT, honest.TestFakeJWT.capabilities
    TestJwtClaimsJwks = says(Jwt, jwt | {"jwks"}, "test_key_set_is_public")
    TestJwtClaimsRotation = says(Jwt, jwt, "test_rotation_of_keys_ends_no_token", lose=refusing("rotate_keys"))
    TestJwtClaimsRevocation = says(
        Jwt, jwt, "test_revocation_is_there_if_declared", lose=refusing("blacklist_token", "revoke_user_tokens")
    )

    State, state = honest.TestFakeState, honest.TestFakeState.capabilities
    TestStateClaimsTtl = says(State, state, "test_life_is_there_if_declared", lose=refusing("register_state"))
    TestStateClaimsDurable = says(
        State, state, "test_durable_callbacks_are_there_where_declared", lose=refusing("register_callback")
    )
    TestStateClaimsWatch = says(State, state, "test_watch_is_there_where_declared", lose=refusing("watch"))

    Vault, vault = honest.TestFakeVault, honest.TestFakeVault.capabilities
    TestVaultClaimsWatch = says(
        Vault, vault, "test_change_of_a_watched_path_is_announced", lose=refusing("watch_secret")
    )


    class Elsewhere(honest.TestFakeVault):
        @pytest.fixture
        def another(self, tmp_path_factory):
            return honest.another("vault", tmp_path_factory.mktemp("elsewhere"))


    TestVaultClaimsShared = says(Elsewhere, vault, "test_processes_see_the_same_secrets_if_declared")

    Database, database = honest.TestFakeDatabase, honest.TestFakeDatabase.capabilities
    TestDatabaseClaimsSql = says(Database, database, "test_sql_is_there_if_declared", lose=refusing("execute_query"))
    TestDatabaseClaimsTransactions = says(
        Database,
        database,
        "test_rows_change_together_if_declared",
        lose=replacing(supports_transactions=lambda real: lambda: False),
    )


    class Alone(honest.TestFakeDatabase):
        @pytest.fixture
        def another(self, tmp_path_factory):
            return honest.another("database", tmp_path_factory.mktemp("elsewhere"))


    TestDatabaseClaimsShared = says(Alone, database, "test_processes_see_the_same_rows_if_declared")

    Limiter, limiter = honest.TestFakeRateLimiter, honest.TestFakeRateLimiter.capabilities
    TestLimiterClaimsShared = says(Limiter, limiter | {"shared"}, "test_processes_count_together_if_declared")
    TestLimiterClaimsExact = says(Limiter, limiter | {"exact"}, "test_exact_limit_holds_in_every_window")
    TestLimiterClaimsBans = says(
        Limiter, limiter, "test_ban_refuses_until_it_is_lifted", lose=refusing("ban_identifier")
    )


    class Forgetful(honest.TestFakeRateLimiter):
        @pytest.fixture
        def another(self, tmp_path_factory):
            settings = {"limits": honest.CONFIGURED}
            return lambda: honest.another("rate_limiter", tmp_path_factory.mktemp("elsewhere"), **settings)()


    TestLimiterClaimsDurableBans = says(Forgetful, limiter, "test_bans_outlive_what_holds_them_if_declared")
    TestLimiterClaimsAutoBan = says(Forgetful, limiter, "test_who_is_refused_too_often_is_banned_if_declared")


    def one_by_one(check):
        async def check_rate_limit(limit_types, **given):
            results = [await check([kind], **given) for kind in limit_types]
            return {
                **results[0],
                "allowed": all(result["allowed"] for result in results),
                "exceeded_types": [kind for result in results for kind in result["exceeded_types"]],
                "limits": [limit for result in results for limit in result["limits"]],
            }

        return check_rate_limit


    TestLimiterClaimsAtomicLevels = says(
        Limiter,
        limiter,
        "test_refusal_of_one_level_consumes_none",
        lose=replacing(check_rate_limit=one_by_one),
    )


    def dearer(check):
        async def check_rate_limit(limit_types, *, cost=1, **given):
            return await check(limit_types, cost=2 * cost, **given)

        return check_rate_limit


    TestLimiterClaimsBurst = says(
        Limiter, limiter, "test_limit_refuses_once_it_is_used_up", lose=replacing(check_rate_limit=dearer)
    )

    Socket, socket = honest.TestFakeWebSocket, honest.TestFakeWebSocket.capabilities
    TestSocketClaimsRecovery = says(Socket, socket, "test_history_of_a_room", lose=refusing("room_history"))


    class Silent(honest.TestFakeWebSocket):
        @pytest.fixture(autouse=True)
        def silent(self, monkeypatch):
            join = honest.NativeClient.join

            async def join_alone(client, room, since=None, presence=False):
                return await join(client, room, since, False)

            monkeypatch.setattr(honest.NativeClient, "join", join_alone)


    TestSocketClaimsPresence = says(Silent, socket, "test_who_joins_hears_who_is_there")

    class TwoThatShareNothing(SharedWebSocketConformance):
        @pytest.fixture
        async def sites(self):
            jwt = websocket_kit.TableJWT()
            async with websocket_kit.site(jwt) as one, websocket_kit.site(jwt) as two:
                yield one, two

        @pytest.fixture
        def manager(self, sites):
            return sites[0].manager

        @pytest.fixture
        def other_manager(self, sites):
            return sites[1].manager

        @pytest.fixture
        def connect(self, sites):
            return sites[0].connect

        @pytest.fixture
        def connect_there(self, sites):
            return sites[1].connect


    class TwoOnOneServer(TwoThatShareNothing):
        @pytest.fixture
        async def sites(self, redis_url):
            jwt = websocket_kit.TableJWT()
            async with redis_kit.started(redis_url) as first, redis_kit.started(redis_url) as second:
                async with websocket_kit.site(jwt, first) as one, websocket_kit.site(jwt, second) as two:
                    yield one, two


    CROSS = "test_events_cross_processes_if_declared"
    TestSocketClaimsShared = says(TwoThatShareNothing, socket, CROSS)

    # What is there and not declared

    TestSocketHidesShared = says(TwoOnOneServer, socket - {"shared"}, CROSS)
    TestDatabaseHidesSql = says(Database, database - {"sql"}, "test_sql_is_there_if_declared")
    TestDatabaseHidesTransactions = says(
        Database, database - {"transactions"}, "test_rows_change_together_if_declared"
    )
    TestDatabaseHidesShared = says(Database, database - {"shared"}, "test_processes_see_the_same_rows_if_declared")
    TestVaultHidesWatch = says(Vault, vault - {"watch"}, "test_change_of_a_watched_path_is_announced")
    TestVaultHidesShared = says(Vault, vault - {"shared"}, "test_processes_see_the_same_secrets_if_declared")
    TestExecutorHidesPriorities = says(Executor, executor - {"priorities"}, PRIORITY)
    TestJwtHidesRotation = says(Jwt, jwt - {"rotation"}, "test_rotation_of_keys_ends_no_token")
    TestJwtHidesRevocation = says(Jwt, jwt - {"revocation"}, "test_revocation_is_there_if_declared")
    TestStateHidesTtl = says(State, state - {"ttl"}, "test_life_is_there_if_declared")
    TestStateHidesDurable = says(
        State, state - {"durable_callbacks"}, "test_durable_callbacks_are_there_where_declared"
    )
    TestStateHidesWatch = says(State, state - {"watch"}, "test_watch_is_there_where_declared")
    TestLimiterHidesBans = says(Limiter, limiter - {"bans"}, "test_ban_refuses_until_it_is_lifted")
    TestLimiterHidesDurableBans = says(
        Limiter, limiter - {"durable_bans"}, "test_bans_outlive_what_holds_them_if_declared"
    )
    TestLimiterHidesAutoBan = says(
        Limiter, limiter - {"auto_ban"}, "test_who_is_refused_too_often_is_banned_if_declared"
    )
    TestLimiterHidesBurst = says(Limiter, limiter - {"burst"}, "test_limit_refuses_once_it_is_used_up")
    TestLimiterHidesAtomicLevels = says(
        Limiter, limiter - {"atomic_levels"}, "test_refusal_of_one_level_consumes_none"
    )
    TestSocketHidesPresence = says(Socket, socket - {"presence"}, "test_who_joins_hears_who_is_there")
    TestSocketHidesRecovery = says(Socket, socket - {"recovery"}, "test_history_of_a_room")


    class Lasting(honest.TestFakeRedis):
        @pytest.fixture
        def another(self, manager):
            @honest.asynccontextmanager
            async def the_same():
                yield manager

            return the_same


    TestRedisHidesShared = says(Lasting, redis, "test_processes_see_the_same_values_if_declared")
    TestRedisHidesPersistent = says(Lasting, redis, "test_values_outlive_the_process_if_declared")


    class Keeping(honest.TestFakeExecutor):
        @pytest.fixture
        def another(self, executor):
            @honest.asynccontextmanager
            async def the_same():
                yield executor

            return the_same


    TestExecutorHidesDurable = says(
        Keeping, executor, "test_what_was_submitted_outlives_the_process_if_declared"
    )


    class Together(honest.TestFakeRateLimiter):
        @pytest.fixture
        def another(self, tmp_path):
            shared = []

            @honest.asynccontextmanager
            async def the_same():
                if shared:
                    yield shared[0]
                else:
                    async with honest.another("rate_limiter", tmp_path, limits=honest.CONFIGURED)() as limiter:
                        shared.append(limiter)
                        yield limiter

            return the_same


    TestLimiterHidesShared = says(Together, limiter, "test_processes_count_together_if_declared")

    # What the contract does not name

    TestHooksClaimsMagic = says(honest.TestFakeHooks, {"magic"}, "test_capabilities_are_those_of_the_contract")
"""

UNTESTED = {
    ("vault", "versions"): "the contract has no way to old values",
    ("jwt", "jwks"): "hidden: the embedded provider has public keys only where settings ask for key pairs",
    ("rate_limiter", "exact"): "hidden: no embedded provider is exact; a sample plugin is",
}


def test_liars_are_found(tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write("test_lies.py", HEAD.format(tests=str(Path(__file__).parent)) + LIES)
    done = project.run("-n", "2", environ={"PYTHONPATH": str(Path(__file__).parents[1])})
    outcomes: dict[str, set[str]] = defaultdict(set)
    for outcome, liar in re.findall(r"^(PASSED|FAILED|ERROR|SKIPPED) test_lies\.py::(\w+)::", done.text, re.MULTILINE):
        outcomes[liar].add(outcome)
    liars = set(re.findall(r"^    (Test\w+) = says", LIES, re.MULTILINE))
    assert outcomes.keys() == liars, done.text
    assert {liar: how for liar, how in outcomes.items() if how != {"FAILED"}} == {}, done.text


def test_every_capability_has_its_liars() -> None:
    names = {"rate_limiter": "Limiter", "websocket": "Socket"}
    liars = set(re.findall(r"^    Test(\w+) = says", LIES, re.MULTILINE))
    for role, suite in SUITES.items():
        for capability in suite.known_capabilities:
            if (role, capability) in UNTESTED:
                continue
            word = "Durable" if capability == "durable_callbacks" else capability.title().replace("_", "")
            for lie in ("Claims", "Hides"):
                assert f"{names.get(role, role.title())}{lie}{word}" in liars


@pytest.mark.parametrize("role", list(ROLES))
def test_suites_know_the_capabilities_that_contracts_name(role: str) -> None:
    told = re.search(r"Capabilities: (.*?)(?:\n\n|$)", ROLES[role].__doc__ or "", re.DOTALL)
    text = re.sub(r"\([^()]*(?:\([^()]*\)[^()]*)*\)", "", told[1]) if told else ""
    assert set(re.findall(r"``(\w+)``", text)) == SUITES[role].known_capabilities
