from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import math
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, cast

import pytest
from opentelemetry.sdk.trace import TracerProvider
from structlog.testing import capture_logs

from base04.actions.slots import Slots
from base04.actions.worker_pool import WorkerPool
from base04.pipeline import MAX_DEPTH, Pipeline
from base04.telemetry.action_spans import TracedPipeline
from base04_builtin.action_discovery.catalogue import Catalogue
from base04_builtin.action_discovery.handler import Handler
from base04_hookspecs import ANONYMOUS, Manager, Principal, RequestContext, Use, blocking, current_request
from base04_hookspecs.action_discovery import Action, ActionContext, ActionInfo
from base04_hookspecs.context import use_request
from base04_hookspecs.errors import (
    ActionBusy,
    ActionFailed,
    ActionTimeout,
    AuthenticationError,
    Conflict,
    InvalidInput,
    InvalidToken,
    ManagerUnavailable,
    NotFound,
    NotSupported,
    OutcomeUnknown,
    PermissionDenied,
    RateLimited,
    UnknownAction,
)
from base04_hookspecs.health import HealthReport, health_report
from base04_hookspecs.host_hooks import ActionCall, ActionOutcome
from base04_hookspecs.rate_limiter import RateLimit, RateLimitResult
from base04_hookspecs.redis import RedisManager
from base04_hookspecs.run_policy import ConcurrencyLimit, RetryPolicy, RunPolicy
from host_kit import until

ADA = Principal("ada", ("notes.*",), "token")
CONTEXT = RequestContext("request-1", ADA, "192.0.2.7", "http")


@pytest.fixture(autouse=True, params=["plain", "traced"])
def _kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everything hold for the pipeline that a host builds where it is traced, too."""
    if request.param == "traced":
        tracer = TracerProvider(shutdown_on_exit=False).get_tracer("test")
        monkeypatch.setitem(globals(), "Pipeline", functools.partial(TracedPipeline, tracer=tracer))


class Echo(Manager):
    """A role that nobody foresaw."""

    role = "echo"

    def __init__(self, name: str = "default") -> None:
        self.name = name

    async def health_check(self) -> HealthReport:
        return health_report()


class Discovery:
    def __init__(self, actions: Sequence[Action]) -> None:
        self.actions = Catalogue(actions)

    def catalogue(self) -> Catalogue:
        return self.actions


class Limiter:
    def __init__(self, *, allowed: bool = True) -> None:
        self.allowed = allowed
        self.calls: list[tuple[tuple[str, ...], Any, Any]] = []
        self.contexts: list[RequestContext | None] = []

    async def check_rate_limit(
        self, limit_types: Sequence[str], *, identifiers: Any = None, limits: Any = None, cost: int = 1
    ) -> RateLimitResult:
        self.calls.append((tuple(limit_types), identifiers, limits))
        self.contexts.append(current_request())
        return {
            "allowed": self.allowed,
            "exceeded_types": [] if self.allowed else ["user"],
            "banned": [] if self.allowed else ["ip", "user"],
            "retry_after": 0.0 if self.allowed else 2.5,
            "limits": [],
        }


class Hooks:
    def __init__(self, error: Exception | None = None, *, listening: bool = True) -> None:
        self.events: list[dict[str, Any]] = []
        self.error = error
        self.listening = listening

    def has_callbacks(self, name: str) -> bool:
        return self.listening

    async def trigger_hook(self, name: str, /, **data: Any) -> list[Any]:
        self.events.append({"hook": name, **data})
        if self.error is not None:
            raise self.error
        return []


class Managers:
    """The managers of one generation."""

    def __init__(self, **managers: Any) -> None:
        self.managers = managers

    def get(self, role: str, instance: str = "default") -> Manager | None:
        return cast(Manager | None, self.managers.get(role if instance == "default" else f"{role}_{instance}"))

    def view(self, role: str, use: Use) -> Manager | None:
        return self.get(role, use.instance)

    def blocking(self, manager: Manager) -> Any:
        return ("blocking", manager)


def action(handler: Handler, name: str = "pack.run", **fields: Any) -> Action:
    info: ActionInfo = {
        "name": name,
        "pack": name.partition(".")[0],
        "pack_version": "1.0.0",
        "examples": [],
        "summary": "",
        "description": "",
        "module": handler.__module__,
        "handler": "",
        "access": fields.pop("access", "public"),
        "permissions": fields.pop("permissions", []),
        "parameters": {},
        "returns": None,
        "timeout": fields.pop("timeout", None),
        "rate_limit": [],
        "source": "pack.yaml:1",
    }
    return Action(info, fields.pop("validate", dict), lambda: handler, **fields)


def pipeline(*actions: Action, managers: Mapping[str, Any] | None = None, **options: Any) -> Pipeline:
    return Pipeline(Managers(action_discovery=Discovery(actions), **(managers or {})), **options)


async def run(handler: Handler, args: Mapping[str, Any] | None = None, **fields: Any) -> Any:
    return await pipeline(action(handler, **fields)).run("pack.run", args, CONTEXT)


@contextlib.contextmanager
def one_log(event: str = "action failed") -> Iterator[dict[str, Any]]:
    """Hold what the one log entry of a block says."""
    entry: dict[str, Any] = {}
    with capture_logs() as logs:
        yield entry
    assert [log["event"] for log in logs] == [event]
    entry.update(logs[0])


# finding and authorising


async def test_action_runs_by_full_and_short_name() -> None:
    async def handler(value: int) -> int:
        return value + 1

    assert await run(handler, {"value": 1}) == 2
    assert await pipeline(action(handler)).run("run", {"value": 2}, CONTEXT) == 3


async def test_unknown_action_has_close_matches() -> None:
    async def handler() -> None: ...

    with pytest.raises(UnknownAction, match=r"no action 'pack\.rum'\. Did you mean 'pack\.run'") as caught:
        await pipeline(action(handler)).run("pack.rum", {}, CONTEXT)
    assert caught.value.matches == ("pack.run",)
    with pytest.raises(UnknownAction) as caught:
        await pipeline(action(handler)).run("x" * 100_000, {}, CONTEXT)
    assert len(str(caught.value)) < 300


async def test_without_discovery_nothing_can_be_found() -> None:
    with pytest.raises(ManagerUnavailable, match="action_discovery"):
        await Pipeline(Managers()).run("a.b", {}, CONTEXT)


@pytest.mark.parametrize(
    ("access", "permissions", "principal", "error"),
    [
        ("public", [], ANONYMOUS, None),
        ("authenticated", [], ANONYMOUS, AuthenticationError),
        ("authenticated", [], Principal("bob", (), "token"), None),
        ("permissions", ["notes.write"], ANONYMOUS, AuthenticationError),
        ("permissions", ["notes.write"], ADA, None),
        ("permissions", ["notes.write", "users.read"], ADA, PermissionDenied),
        ("permissions", ["notes.write"], Principal("bob", ("*",), "api_key"), None),
        ("permissions", ["notes.write"], Principal("bob", ("notes",), "api_key"), PermissionDenied),
    ],
)
async def test_access_is_what_the_action_says(
    access: str, permissions: list[str], principal: Principal, error: type[Exception] | None
) -> None:
    async def handler() -> str:
        return "ran"

    line = pipeline(action(handler, access=access, permissions=permissions))
    context = dataclasses.replace(CONTEXT, principal=principal)
    if error is None:
        assert await line.run("run", None, context) == "ran"
    else:
        with pytest.raises(error) as caught:
            await line.run("run", None, context)
        if isinstance(caught.value, PermissionDenied):
            assert caught.value.missing == tuple(name for name in permissions if not principal.may(name))


async def test_refused_caller_learns_nothing_of_the_arguments() -> None:
    def validate(args: Mapping[str, Any]) -> dict[str, Any]:
        raise AssertionError("validated before the caller was authorised")

    async def handler() -> None: ...

    with pytest.raises(AuthenticationError):
        await pipeline(action(handler, access="authenticated", validate=validate)).run(
            "run", {}, RequestContext("r", ANONYMOUS)
        )


# limiting


def from_socket(context: RequestContext) -> RequestContext:
    """Return a context in which nothing has been counted."""
    return dataclasses.replace(context, source="websocket")


async def test_limits_are_checked_in_one_step_within_the_request() -> None:
    async def handler() -> None: ...

    limiter = Limiter()
    limits = (RateLimit(20, 60),)
    plain, limited = action(handler, "pack.plain"), action(handler, "pack.limited", limits=limits)
    line = pipeline(plain, limited, managers={"rate_limiter": limiter})
    await line.run("plain", {}, from_socket(CONTEXT))
    await line.run("limited", {}, from_socket(CONTEXT))
    who = {"ip": CONTEXT.client_ip, "user": "ada"}
    assert limiter.calls == [
        (("ip", "user"), who, None),
        (("ip", "user", "action"), {**who, "action": "pack.limited:ada"}, {"action": limits}),
    ]
    assert [context and context.action for context in limiter.contexts] == ["pack.plain", "pack.limited"]


async def test_call_that_http_has_counted_is_counted_for_the_actions_own_limit_alone() -> None:
    async def handler() -> None: ...

    limiter = Limiter()
    limits = (RateLimit(20, 60),)
    plain, limited = action(handler, "pack.plain"), action(handler, "pack.limited", limits=limits)
    line = pipeline(plain, limited, managers={"rate_limiter": limiter})
    await line.run("plain", {}, CONTEXT)
    await line.run("limited", {}, CONTEXT)
    assert limiter.calls == [(("action",), {"action": "pack.limited:ada"}, {"action": limits})]


@pytest.mark.parametrize(
    ("principal", "level", "identifier"),
    [
        (Principal("ada", (), "api_key", api_key_id="key", claims={"rate_limit": "5/day"}), "api_key", "key"),
        (Principal("ada", (), "token", api_key_id="key", claims={"rate_limit": "5/day"}), "api_key", "key"),
        (Principal("ada", (), "token", claims={"rate_limit": "5/day"}), "user", "ada"),
    ],
)
async def test_limit_of_a_key_or_a_token_takes_the_place_of_those_of_its_level(
    principal: Principal, level: str, identifier: str
) -> None:
    async def handler() -> None: ...

    limiter = Limiter()
    line = pipeline(action(handler), managers={"rate_limiter": limiter})
    await line.run("run", {}, RequestContext("r", principal, "192.0.2.1", "websocket"))
    (_, identifiers, limits) = limiter.calls[0]
    assert (identifiers[level], limits) == (identifier, {level: (RateLimit(5, 86400),)})


@pytest.mark.parametrize(
    ("principal", "ip", "caller"),
    [
        (Principal("ada", (), "api_key", api_key_id="key"), "192.0.2.1", "ada"),
        (Principal(None, (), "api_key", api_key_id="key"), "192.0.2.1", "key"),
        (ANONYMOUS, "192.0.2.1", "192.0.2.1"),
        (ANONYMOUS, "2001:db8:0:1:ffff::1", "2001:db8:0:1::/64"),
        (ANONYMOUS, "fe80::1%eth0", "fe80::/64"),
        (ANONYMOUS, "not:an:address", "not:an:address"),
        (ANONYMOUS, None, "anonymous"),
    ],
)
async def test_action_limit_counts_the_caller(principal: Principal, ip: str | None, caller: str) -> None:
    async def handler() -> None: ...

    limiter = Limiter()
    line = pipeline(action(handler, limits=(RateLimit(1, 1),)), managers={"rate_limiter": limiter})
    await line.run("run", {}, RequestContext("r", principal, ip))
    assert limiter.calls[0][1]["action"] == f"pack.run:{caller}"


async def test_refusal_says_what_was_exceeded_and_when_to_come_back() -> None:
    async def handler() -> None: ...

    line = pipeline(action(handler), managers={"rate_limiter": Limiter(allowed=False)})
    with pytest.raises(RateLimited) as caught:
        await line.run("run", {}, from_socket(CONTEXT))
    assert (caught.value.retry_after, caught.value.exceeded) == (2.5, ("user", "ip"))
    assert caught.value.banned == ("ip", "user")


async def test_local_and_nested_calls_are_not_limited() -> None:
    async def outer(context: ActionContext) -> Any:
        return await context.run("inner")

    async def inner() -> str:
        return "ran"

    limiter = Limiter()
    actions = (action(outer, "pack.outer"), action(inner, "pack.inner"))
    line = pipeline(*actions, managers={"rate_limiter": limiter})
    local = Principal("root", ("*",), "local")
    await line.run("inner", {}, RequestContext("r", local))
    assert limiter.calls == []
    assert await line.run("outer", {}, from_socket(CONTEXT)) == "ran"
    assert len(limiter.calls) == 1


# before and after


async def test_before_and_after_see_the_call_and_share_values() -> None:
    seen: list[Any] = []

    async def before(call: ActionCall) -> None:
        call.values["note"] = dict(call.args)
        call.args = {"value": 5}

    async def after(call: ActionCall, outcome: ActionOutcome) -> None:
        seen.append((call.values["note"], call.args, outcome.status, outcome.result, outcome.error))
        assert outcome.duration >= 0

    async def handler(value: int) -> int:
        return value * 2

    line = pipeline(action(handler), before=[before], after=[after])
    assert await line.run("run", {"value": 1}, CONTEXT) == 10
    assert seen == [({"value": 1}, {"value": 5}, "succeeded", 10, None)]


async def test_replaced_arguments_are_checked_and_blamed_on_who_replaced_them() -> None:
    def validate(args: Mapping[str, Any]) -> dict[str, Any]:
        if "bad" in args:
            raise InvalidInput("bad is not allowed")
        return dict(args)

    async def before(call: ActionCall) -> None:
        call.args["bad"] = 1

    async def handler() -> None: ...

    with one_log() as entry, pytest.raises(ActionFailed):
        await pipeline(action(handler, validate=validate), before=[before]).run("run", {}, CONTEXT)
    assert isinstance(entry["exc_info"], InvalidInput)


async def test_before_that_raises_stops_the_run() -> None:
    calls: list[str] = []

    async def refuse(call: ActionCall) -> None:
        raise Conflict("closed on Sundays")

    async def after(call: ActionCall, outcome: ActionOutcome) -> None:
        calls.append("after")

    async def handler() -> None:
        calls.append("handler")

    with pytest.raises(Conflict, match="closed on Sundays"):
        await pipeline(action(handler), before=[refuse], after=[after]).run("run", {}, CONTEXT)
    assert calls == []


async def test_before_that_breaks_is_a_failure_without_details() -> None:
    async def broken(call: ActionCall) -> None:
        raise KeyError("postgresql://user:hunter2@db")

    async def handler() -> None: ...

    with one_log() as entry, pytest.raises(ActionFailed) as caught:
        await pipeline(action(handler), before=[broken]).run("run", {}, CONTEXT)
    assert "hunter2" not in str(caught.value)
    assert isinstance(entry["exc_info"], KeyError)


async def test_after_that_breaks_changes_nothing_and_does_not_stop_the_next() -> None:
    calls: list[str] = []

    async def broken(call: ActionCall, outcome: ActionOutcome) -> None:
        raise SystemExit(3)

    async def after(call: ActionCall, outcome: ActionOutcome) -> None:
        calls.append(outcome.status)

    async def handler() -> str:
        return "ran"

    with one_log("after_action callable failed") as entry:
        assert await pipeline(action(handler), after=[broken, after]).run("run", {}, CONTEXT) == "ran"
    assert calls == ["succeeded"]
    assert entry["request_id"] == "request-1"


async def test_run_is_announced_however_it_ended() -> None:
    async def handler(fail: bool) -> str:
        if fail:
            raise NotFound("nothing here")
        return "ran"

    hooks = Hooks()
    line = pipeline(action(handler), managers={"hooks": hooks})
    await line.run("run", {"fail": False}, CONTEXT)
    with pytest.raises(NotFound):
        await line.run("run", {"fail": True}, CONTEXT)
    assert [(event["hook"], event["action"], event["status"]) for event in hooks.events] == [
        ("action.executed", "pack.run", "succeeded"),
        ("action.executed", "pack.run", "failed"),
    ]
    assert hooks.events[0]["user_id"] == "ada"
    assert hooks.events[0]["request_id"] == "request-1"


async def test_run_is_not_announced_where_nobody_listens() -> None:
    async def handler() -> None: ...

    hooks = Hooks(listening=False)
    await pipeline(action(handler), managers={"hooks": hooks}).run("run", {}, CONTEXT)
    assert hooks.events == []


async def test_announcement_that_fails_changes_nothing() -> None:
    async def handler() -> str:
        return "ran"

    line = pipeline(action(handler), managers={"hooks": Hooks(ManagerUnavailable("down"))})
    with one_log("action could not be announced"):
        assert await line.run("run", {}, CONTEXT) == "ran"


# errors


@pytest.mark.parametrize(
    "error",
    [
        InvalidInput("no"),
        NotFound("no"),
        NotSupported("no"),
        Conflict("no"),
        PermissionDenied("no", ["a.b"]),
        ManagerUnavailable("no"),
        OutcomeUnknown("no"),
        RateLimited("no", retry_after=1),
        InvalidToken("expired"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_error_of_the_callers_kind_passes_unchanged(error: Exception) -> None:
    async def handler() -> None:
        raise error

    with capture_logs() as logs, pytest.raises(type(error)) as caught:
        await run(handler)
    assert caught.value is error
    assert logs == []


@pytest.mark.parametrize(
    "error",
    [
        ValueError("hunter2"),
        TimeoutError("hunter2"),
        SystemExit("hunter2"),
        KeyboardInterrupt("hunter2"),
        StopIteration("hunter2"),
        BaseExceptionGroup("hunter2", [SystemExit(1)]),
        asyncio.CancelledError("hunter2"),
        GeneratorExit("hunter2"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
async def test_any_other_error_is_a_failure_without_details_and_logged(error: BaseException, plain: bool) -> None:
    async def asynchronous() -> None:
        raise error

    def synchronous() -> None:
        raise error

    with one_log() as entry, pytest.raises(ActionFailed) as caught:
        await run(synchronous if plain else asynchronous)
    assert "hunter2" not in str(caught.value)
    assert "request-1" in str(caught.value)
    assert caught.value.action == "pack.run"
    chain = [caught.value.__cause__, getattr(caught.value.__cause__, "__cause__", None)]
    assert error in chain
    assert (entry["action"], entry["request_id"]) == ("pack.run", "request-1")
    assert entry["exc_info"] is caught.value.__cause__


@dataclasses.dataclass
class Point:
    x: float
    y: float


@pytest.mark.parametrize("result", [{"a": [1, 2.5, "x", None, True]}, None, "text", [], {"a": None}])
async def test_json_result_is_returned_as_it_is(result: Any) -> None:
    async def handler() -> Any:
        return result

    assert await run(handler) is result


async def test_result_that_becomes_json_is_returned_as_json() -> None:
    async def handler() -> Any:
        return {"points": [Point(1, 2)]}

    assert await run(handler) == {"points": [{"x": 1, "y": 2}]}


def _endless() -> list[Any]:
    result: list[Any] = []
    result.append(result)
    return result


@pytest.mark.parametrize(
    "result",
    [
        math.nan,
        {"deep": [1, {"x": math.inf}]},
        Point(math.nan, 1),
        {1, 2},
        b"bytes",
        {1: 2},
        2**70,
        "\ud800",
        object(),
        _endless(),
    ],
    ids=["nan", "inf", "dataclass", "set", "bytes", "key", "large", "surrogate", "object", "endless"],
)
async def test_result_that_is_not_json_is_a_failure(result: Any) -> None:
    async def handler() -> Any:
        return result

    with one_log(), pytest.raises(ActionFailed):
        await run(handler)


async def test_result_that_is_not_as_declared_is_a_failure_of_the_action() -> None:
    def check(result: Any) -> None:
        raise InvalidInput("message: required")

    async def handler() -> dict[str, int]:
        return {}

    with one_log() as entry, pytest.raises(ActionFailed):
        await run(handler, check_result=check)
    assert "message: required" in str(entry["exc_info"])


async def test_plain_handler_that_returns_a_coroutine_is_told_what_to_write() -> None:
    async def inner() -> None: ...

    def handler() -> Any:
        return inner()

    with one_log() as entry, pytest.raises(ActionFailed):
        await run(handler)
    assert "write 'async def'" in str(entry["exc_info"])


# timeouts and cancellation


async def test_handler_that_takes_too_long_is_cancelled() -> None:
    ended: list[str] = []

    async def handler() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("cleaned up")

    statuses: list[str] = []

    async def after(call: ActionCall, outcome: ActionOutcome) -> None:
        statuses.append(outcome.status)

    with pytest.raises(ActionTimeout, match=r"longer than the 0\.01 s it may"):
        await pipeline(action(handler, timeout=0.01), after=[after]).run("run", {}, CONTEXT)
    assert (ended, statuses) == (["cleaned up"], ["timeout"])
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def swallow_and_return() -> str:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.Event().wait()
    return "done all the same"


async def swallow_and_raise() -> None:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        raise NotFound("something else") from None


async def swallow_and_go_on() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


async def clean_up_forever() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        await asyncio.Event().wait()


SWALLOWING = [swallow_and_return, swallow_and_raise, swallow_and_go_on, clean_up_forever]


@pytest.mark.parametrize("handler", SWALLOWING)
async def test_handler_that_swallows_its_cancellation_has_timed_out_anyway(handler: Handler) -> None:
    with capture_logs(), pytest.raises(ActionTimeout):
        await pipeline(action(handler, timeout=0.01), grace=0.01).run("run", {}, CONTEXT)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # nothing is left that would cancel this task later


async def wait_for_ever() -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("handler", [*SWALLOWING, wait_for_ever])
async def test_cancellation_from_outside_propagates_after_after_action_ran(handler: Handler) -> None:
    statuses: list[str] = []
    began = asyncio.Event()

    async def noted() -> Any:
        began.set()
        return await handler()

    async def after(call: ActionCall, outcome: ActionOutcome) -> None:
        await asyncio.sleep(0)
        statuses.append(outcome.status)

    line = pipeline(action(noted, timeout=60), after=[after], grace=0.01)
    with capture_logs():
        task = asyncio.create_task(line.run("run", {}, CONTEXT))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert statuses == ["cancelled"]


async def test_timeout_within_a_handler_is_its_own() -> None:
    async def handler() -> str:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.Event().wait()
        except TimeoutError:
            return "handled"
        return "not reached"

    assert await run(handler, timeout=60) == "handled"


async def test_handlers_task_group_and_current_task_are_those_of_the_caller() -> None:
    async def handler() -> bool:
        before = asyncio.current_task()
        async with asyncio.TaskGroup() as group:
            child = group.create_task(asyncio.sleep(0, "child"))
        return child.result() == "child" and asyncio.current_task() is before

    assert await run(handler, timeout=60) is True


async def test_closing_a_run_closes_its_handler() -> None:
    closed: list[bool] = []

    async def handler() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    coroutine = pipeline(action(handler)).run("run", {}, CONTEXT)
    coroutine.send(None)
    coroutine.close()
    assert closed == [True]


async def test_plain_handler_that_takes_too_long_is_abandoned() -> None:
    release = threading.Event()

    def handler() -> None:
        release.wait()

    workers = WorkerPool(threads=1)
    line = pipeline(action(handler, timeout=0.01), workers=workers)
    with pytest.raises(ActionTimeout):
        await line.run("run", {}, CONTEXT)
    assert workers.abandoned == 1
    with pytest.raises(ManagerUnavailable):
        await line.run("run", {}, CONTEXT)
    release.set()
    while workers.abandoned:
        await asyncio.sleep(0)


# what handlers get


async def test_asynchronous_handler_gets_managers_as_they_are() -> None:
    async def handler(
        echo: Echo, named: Annotated[Echo, Use("second")], absent: RedisManager | None, value: int
    ) -> list[Any]:
        return [echo.name, named.name, absent, value]

    managers = {"echo": Echo("first"), "echo_second": Echo("second")}
    line = pipeline(action(handler), managers=managers)
    assert await line.run("run", {"value": 1}, CONTEXT) == ["first", "second", None, 1]


async def test_plain_handler_gets_blocking_proxies_and_the_request() -> None:
    seen: list[Any] = []

    def handler(redis: blocking.RedisManager, absent: blocking.DatabaseManager | None) -> None:
        request = current_request()
        assert request is not None
        seen.extend([redis, absent, request.principal, request.action])

    redis = object()
    await pipeline(action(handler), managers={"redis": redis}).run("run", {}, CONTEXT)
    assert seen == [("blocking", redis), None, ADA, "pack.run"]


async def test_managers_are_looked_up_for_each_run() -> None:
    async def handler(echo: Echo) -> str:
        return echo.name

    managers = Managers(action_discovery=Discovery([action(handler)]))
    line = Pipeline(managers)
    with pytest.raises(ManagerUnavailable, match=r"'pack\.run' needs the 'echo' manager"):
        await line.run("run", {}, CONTEXT)
    managers.managers["echo"] = Echo("back")
    assert await line.run("run", {}, CONTEXT) == "back"


async def test_action_that_was_discovered_anew_runs_its_new_handler() -> None:
    async def old() -> str:
        return "old"

    async def new() -> str:
        return "new"

    managers = Managers(action_discovery=Discovery([action(old)]))
    line = Pipeline(managers)
    assert await line.run("run", {}, CONTEXT) == "old"
    managers.managers["action_discovery"] = Discovery([action(new)])
    assert await line.run("run", {}, CONTEXT) == "new"


async def test_unusable_signature_is_reported_when_first_run() -> None:
    async def handler(redis: blocking.RedisManager) -> None: ...

    with one_log() as entry, pytest.raises(ActionFailed):
        await run(handler)
    assert "annotate it with base04_hookspecs.redis.RedisManager" in str(entry["exc_info"])


async def test_argument_never_takes_the_place_of_what_the_host_gives() -> None:
    async def handler(echo: Echo, **rest: Any) -> list[Any]:
        return [echo.name, rest]

    line = pipeline(action(handler), managers={"echo": Echo("real")})
    assert await line.run("run", {"echo": "forged", "other": 1}, CONTEXT) == ["real", {"other": 1}]


async def test_context_tells_of_the_request_and_logs_with_it() -> None:
    async def handler(context: ActionContext) -> list[Any]:
        context.log.info("at work", step=1)
        context.progress(1, 2)
        return [context.action, context.request_id, context.principal.user_id]

    with capture_logs() as logs:
        assert await run(handler) == ["pack.run", "request-1", "ada"]
    assert logs == [
        {"event": "at work", "step": 1, "action": "pack.run", "request_id": "request-1", "log_level": "info"}
    ]


@pytest.mark.parametrize("kind", ["async", "plain", "to_thread"])
async def test_progress_is_told_on_the_loop_from_any_thread(kind: str) -> None:
    async def asynchronous(context: ActionContext) -> None:
        context.progress(1, 2, "half")

    def plain(context: ActionContext) -> None:
        context.progress(1, 2, "half")

    async def to_thread(context: ActionContext) -> None:
        await asyncio.to_thread(context.progress, 1, 2, "half")

    told: list[Any] = []
    main = threading.get_ident()

    def report(done: float, total: float | None, message: str) -> None:
        told.append((done, total, message, threading.get_ident() == main))

    handler: Callable[..., Any] = {"async": asynchronous, "plain": plain, "to_thread": to_thread}[kind]
    await pipeline(action(handler)).run("run", {}, CONTEXT, report=report)
    assert told == [(1, 2, "half", True)]


# actions that run actions


async def test_nested_call_keeps_the_principal_and_request_and_goes_deeper() -> None:
    async def outer(context: ActionContext) -> Any:
        return [_described(), await context.run("inner"), _described()]

    async def inner() -> Any:
        return _described()

    def _described() -> list[Any]:
        request = current_request()
        assert request is not None
        return [request.action, request.depth, request.source, request.principal.user_id, request.request_id]

    line = pipeline(action(outer, "pack.outer"), action(inner, "pack.inner", access="authenticated"))
    around = ["pack.outer", 0, "http", "ada", "request-1"]
    assert await line.run("outer", {}, CONTEXT) == [around, ["pack.inner", 1, "action", "ada", "request-1"], around]
    assert current_request() is None


async def test_nested_call_is_authorised() -> None:
    async def outer(context: ActionContext) -> Any:
        return await context.run("inner")

    async def inner() -> None: ...

    line = pipeline(
        action(outer, "pack.outer"), action(inner, "pack.inner", access="permissions", permissions=["users.write"])
    )
    with pytest.raises(PermissionDenied):
        await line.run("outer", {}, CONTEXT)


async def test_actions_do_not_call_each_other_without_end() -> None:
    depths: list[int] = []

    async def handler(context: ActionContext) -> Any:
        request = current_request()
        assert request is not None
        depths.append(request.depth)
        return await context.run("run")

    with capture_logs() as logs, pytest.raises(ActionFailed) as caught:
        await run(handler)
    assert depths == list(range(MAX_DEPTH + 1))
    assert any("16 deep already" in log.get("cause", "") for log in logs)
    assert caught.value.action == "pack.run"


async def test_call_through_the_current_request_is_nested_too() -> None:
    """So does the host's ``run_action``: it hands the current request to the pipeline."""

    async def outer() -> Any:
        request = current_request()
        assert request is not None
        return await line.run("inner", {}, request)

    async def inner() -> int:
        request = current_request()
        assert request is not None
        return request.depth

    line = pipeline(action(outer, "pack.outer"), action(inner, "pack.inner"))
    assert await line.run("outer", {}, CONTEXT) == 1


async def test_failure_of_a_nested_action_is_logged_once_with_its_traceback() -> None:
    async def outer(context: ActionContext) -> Any:
        return await context.run("inner")

    async def inner() -> None:
        raise ValueError("broken")

    with capture_logs() as logs, pytest.raises(ActionFailed) as caught:
        await pipeline(action(outer, "pack.outer"), action(inner, "pack.inner")).run("outer", {}, CONTEXT)
    assert caught.value.action == "pack.outer"
    assert [(log["action"], "exc_info" in log) for log in logs] == [("pack.inner", True), ("pack.outer", False)]


async def test_request_is_the_callers_again_afterwards() -> None:
    async def handler() -> None:
        raise NotFound("no")

    with use_request(CONTEXT):
        with pytest.raises(NotFound):
            await run(handler)
        assert current_request() is CONTEXT


async def test_many_runs_at_once_do_not_mix() -> None:
    async def handler(value: int) -> list[Any]:
        await asyncio.sleep(0)
        request = current_request()
        assert request is not None
        return [value, request.request_id]

    line = pipeline(action(handler, timeout=60))
    runs: list[Awaitable[Any]] = [line.run("run", {"value": n}, RequestContext(f"r{n}", ADA)) for n in range(200)]
    assert await asyncio.gather(*runs) == [[n, f"r{n}"] for n in range(200)]


# trying again


BUSY = ManagerUnavailable("the database is away", retry_after=0.001)


def retried(attempts: int = 3, **further: Any) -> RunPolicy:
    return RunPolicy(idempotent=True, retry=RetryPolicy(attempts, 0.001, **further))


def failing_first(*errors: BaseException) -> tuple[Handler, list[list[int]]]:
    """Return a handler that raises each error in turn and then succeeds, and what it was called with."""
    left, seen = list(errors), list[list[int]]()

    async def handler(items: list[int]) -> str:
        seen.append(list(items))
        items.append(0)
        if left:
            raise left.pop(0)
        return "done"

    return handler, seen


async def test_handler_is_tried_again_with_the_arguments_as_they_were() -> None:
    handler, seen = failing_first(BUSY, OutcomeUnknown("the connection broke"))
    with capture_logs() as logs:
        assert await run(handler, {"items": [1]}, policy=retried()) == "done"
    assert seen == [[1], [1], [1]]
    assert [log["cause"] for log in logs] == ["unavailable", "outcome-unknown"]


async def test_last_attempt_decides() -> None:
    handler, seen = failing_first(BUSY, BUSY, BUSY, BUSY)
    with capture_logs(), pytest.raises(ManagerUnavailable):
        await run(handler, {"items": []}, policy=retried(3))
    assert len(seen) == 3


@pytest.mark.parametrize(
    ("error", "seen_as"),
    [
        (NotFound("gone"), NotFound),
        (PermissionDenied("no"), PermissionDenied),
        (ValueError("a bug"), ActionFailed),
        (SystemExit(1), ActionFailed),
    ],
)
async def test_only_what_is_listed_is_tried_again(error: BaseException, seen_as: type[Exception]) -> None:
    handler, seen = failing_first(error)
    with capture_logs(), pytest.raises(seen_as):
        await run(handler, {"items": []}, policy=retried())
    assert len(seen) == 1


async def test_failures_and_timeouts_are_tried_again_where_the_action_says_so() -> None:
    tries: list[int] = []

    async def handler() -> int:
        tries.append(len(tries))
        if len(tries) == 1:
            await asyncio.Event().wait()
        if len(tries) == 2:
            raise ValueError("a bug")
        return len(tries)

    with capture_logs():
        assert await run(handler, timeout=0.01, policy=retried(when=("timeout", "failed"))) == 3


async def test_cancellation_ends_the_wait_for_another_attempt() -> None:
    handler, seen = failing_first(BUSY)
    policy = RunPolicy(idempotent=True, retry=RetryPolicy(2, 3600, max_delay=3600))
    with capture_logs():
        task = asyncio.create_task(run(handler, {"items": []}, policy=policy))
        await until(lambda: seen)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(seen) == 1


# how many at once


class Gate:
    """A handler that waits to be let go, and counts who is inside."""

    def __init__(self) -> None:
        self.inside: list[str] = []
        self.go_on = asyncio.Event()

    async def __call__(self, account: str = "") -> str:
        self.inside.append(account)
        await self.go_on.wait()
        return account


def limited(limit: int, by: str | None = None, wait: float = 0.0) -> RunPolicy:
    return RunPolicy(concurrency=ConcurrencyLimit(limit, by, wait))


async def test_action_that_runs_as_often_as_it_may_is_refused_at_once_and_free_again_afterwards() -> None:
    gate, slots = Gate(), Slots()
    line = pipeline(action(gate.__call__, policy=limited(1)), slots=slots)
    first = asyncio.create_task(line.run("run", {"account": "a"}, CONTEXT))
    await until(lambda: gate.inside)
    with pytest.raises(ActionBusy, match="runs 1 times at once already, and may not run more often") as caught:
        await line.run("run", {"account": "b"}, CONTEXT)
    assert caught.value.retry_after == 1.0
    gate.go_on.set()
    assert await first == "a"
    assert await line.run("run", {"account": "b"}, CONTEXT) == "b"
    assert len(slots) == 0


async def test_limit_by_a_parameter_counts_its_values_apart() -> None:
    gate = Gate()
    line = pipeline(action(gate.__call__, policy=limited(1, "account")))
    runs = [asyncio.create_task(line.run("run", {"account": name}, CONTEXT)) for name in "ab"]
    await until(lambda: len(gate.inside) == 2)
    with pytest.raises(ActionBusy, match="with the same 'account'"):
        await line.run("run", {"account": "a"}, CONTEXT)
    gate.go_on.set()
    assert await asyncio.gather(*runs) == ["a", "b"]


async def test_who_waits_is_let_in_in_order_and_who_gives_up_leaves_nothing_behind() -> None:
    gate, slots = Gate(), Slots()
    line = pipeline(action(gate.__call__, policy=limited(1, wait=3600)), slots=slots)
    runs = [asyncio.create_task(line.run("run", {"account": name}, CONTEXT)) for name in "abcd"]
    await until(lambda: gate.inside)
    runs[1].cancel()
    gate.go_on.set()
    done = await asyncio.gather(*runs, return_exceptions=True)
    assert isinstance(done[1], asyncio.CancelledError)
    assert gate.inside == ["a", "c", "d"]
    assert len(slots) == 0


async def test_place_that_is_handed_to_somebody_who_just_gave_up_goes_to_the_next() -> None:
    slots, limit = Slots(), ConcurrencyLimit(1, wait=3600)
    entered: list[str] = []

    async def hold(name: str) -> None:
        async with slots.taken("a", limit, {}):
            entered.append(name)

    async with slots.taken("a", limit, {}):
        tasks = [asyncio.create_task(hold(name)) for name in "bc"]
        await asyncio.sleep(0)
    tasks[0].cancel()  # its turn has come, and it has not run yet
    await asyncio.gather(*tasks, return_exceptions=True)
    assert entered == ["c"]
    assert len(slots) == 0


async def test_waiting_too_long_for_a_place_is_refused() -> None:
    slots = Slots()
    async with slots.taken("a", ConcurrencyLimit(1), {}):
        with pytest.raises(ActionBusy):
            async with slots.taken("a", ConcurrencyLimit(1, wait=0.01), {}):
                raise AssertionError
    assert len(slots) == 0


# recording


async def test_every_run_is_recorded_with_how_it_ended() -> None:
    notes: list[tuple[Any, ...]] = []

    async def handler(fail: bool) -> None:
        if fail:
            raise NotFound("gone")

    line = pipeline(action(handler), record=lambda *note: notes.append(note))
    await line.run("run", {"fail": False}, CONTEXT)
    with pytest.raises(NotFound):
        await line.run("run", {"fail": True}, CONTEXT)
    context = dataclasses.replace(CONTEXT, action="pack.run")
    await line.run_admitted(line.find("run"), {"fail": False}, context)
    with pytest.raises(NotFound):
        await line.run_admitted(line.find("run"), {"fail": True}, context)
    assert [(note[0].action, note[0].principal.user_id, note[1]) for note in notes] == [
        ("pack.run", "ada", status) for status in ("succeeded", "failed") * 2
    ]
    assert all(note[2] > 1_700_000_000 and note[3] >= 0 for note in notes)
    assert [type(note[4]) for note in notes] == [type(None), NotFound] * 2


async def test_performing_what_was_admitted_checks_access_counts_nothing_and_records_nothing() -> None:
    notes: list[Any] = []
    limiter = Limiter()

    async def handler(context: ActionContext) -> str:
        context.progress(1, 2, "half")
        return context.request_id

    told: list[tuple[float, float | None, str]] = []
    line = pipeline(
        action(handler, access="permissions", permissions=["notes.write"]),
        managers={"rate_limiter": limiter},
        record=lambda *note: notes.append(note),
    )
    outcome, written = await line.perform("pack.run", {}, CONTEXT, lambda *progress: told.append(progress))
    assert (outcome.status, written, told, notes, limiter.calls) == (
        "succeeded",
        b'"request-1"',
        [(1, 2, "half")],
        [],
        [],
    )
    with pytest.raises(AuthenticationError):
        await line.perform("pack.run", {}, dataclasses.replace(CONTEXT, principal=ANONYMOUS), lambda *_: None)
