"""Executions in the background, followed from elsewhere: what they send as it happens, and what becomes of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict, TypeVar, overload
from urllib.parse import quote

import httpx2 as httpx
import orjson

from base04.client.problems import ExecutionCancelled, error_of
from base04_hookspecs.errors import Base04Error

if TYPE_CHECKING:
    from base04.client.calls import Calls

T = TypeVar("T")

ExecutionStatus = Literal["queued", "running", "succeeded", "failed", "timeout", "cancelled", "interrupted"]

_OPEN: Final = ("queued", "running")

PAUSE_S: Final = 1.0
"""How long to wait before a stream that broke is asked for again."""

_LEAST_S: Final = 0.01


class ExecutionProgress(TypedDict):
    """How far an execution is; ``total`` is None where nobody knows."""

    done: float
    total: float | None
    message: str


class ExecutionInfo(TypedDict, total=False):
    """An execution as the host tells of it. Times are seconds since the epoch, ``duration`` is in seconds.

    ``error`` is a problem (RFC 9457). ``result``, ``progress``, ``priority`` and ``attempt`` are those of executions
    in the background.
    """

    id: str
    action: str
    status: ExecutionStatus
    mode: Literal["wait", "background"]
    user_id: str | None
    request_id: str | None
    source: str | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    duration: float | None
    error: dict[str, Any] | None
    result: Any
    progress: ExecutionProgress | None
    priority: int | None
    attempt: int | None


class ExecutionFilter(TypedDict, total=False):
    """Which executions are asked for. ``action`` may be ``notes.*``, and times are ``2h`` or ``2026-11-23T10:00Z``."""

    action: str
    status: ExecutionStatus
    mode: Literal["wait", "background"]
    user: str
    request_id: str
    since: str
    until: str
    limit: int


def following(query: dict[str, Any], before: str | None) -> dict[str, Any] | None:
    """Return the query for the next page, None where there is none."""
    return None if before is None else {**query, "before": before}


def ended(info: ExecutionInfo) -> bool:
    """Tell whether an execution goes on no more."""
    return info["status"] not in _OPEN


def result_of(info: ExecutionInfo) -> Any:
    """Return the result of an execution that has ended.

    Raises:
        Base04Error: it has failed, as the error that whoever had waited for it would have got.
        ExecutionCancelled: it was cancelled.
    """
    if info["status"] == "succeeded":
        return info["result"]
    problem = info["error"] or {}
    if info["status"] == "cancelled":
        raise ExecutionCancelled(f"The execution {info['id']} of {info['action']!r} was cancelled.")
    error = error_of(problem.get("status", 500), problem, {}, info["action"])
    error.add_note(f"execution {info['id']}: {info['status']}")
    raise error


def path_of_execution(identity: str, further: str = "") -> str:
    """Return where an execution is asked for."""
    return f"/executions/{quote(identity, safe='')}{further}"


class Events:
    """Reads Server-Sent Events (HTML Living Standard, section 9.2), line by line."""

    def __init__(self) -> None:
        self._data: list[str] = []

    def take(self, line: str) -> ExecutionInfo | None:
        """Take a line, and return the execution once an event is whole."""
        if line.startswith("data:"):
            self._data.append(line[5:].removeprefix(" "))
        if line or not self._data:
            return None
        text, self._data = "\n".join(self._data), []
        found: ExecutionInfo = orjson.loads(text)
        return found


class Following:
    """Decides how long to go on following an execution, and how.

    Args:
        info: what is known of the execution.
        patience_s: how long the host may be away.
        timeout_s: how long to follow; None for as long as it takes.
    """

    def __init__(self, info: ExecutionInfo, patience_s: float, timeout_s: float | None) -> None:
        self.info = info
        self._events = Events()
        self._patience_s, self._timeout_s = patience_s, timeout_s
        self._deadline = None if timeout_s is None else time.monotonic() + timeout_s
        self._away_since: float | None = None

    def request(self) -> dict[str, Any]:
        """Return the request for the stream of events."""
        self._events = Events()
        read_s = self._patience_s
        if self._deadline is not None:
            read_s = min(read_s, max(self._deadline - time.monotonic(), _LEAST_S))
        timeout = httpx.Timeout(self._patience_s, read=read_s)
        headers = {"accept": "text/event-stream"}
        return {
            "method": "GET",
            "url": path_of_execution(self.info["id"], "/events"),
            "headers": headers,
            "timeout": timeout,
        }

    def take(self, line: str) -> ExecutionInfo | None:
        """Take a line of the stream, and return the execution once an event is whole.

        Raises:
            TimeoutError: it was followed for as long as it was to be.
        """
        self._away_since = None
        found = self._events.take(line)
        if found is None:
            self.check()
        else:
            self.info = found
        return found

    def broken(self, error: Base04Error) -> None:
        """Note that the stream broke.

        Raises:
            Base04Error: ``error``, since the host has been away for too long.
            TimeoutError: it was followed for as long as it was to be.
        """
        now = time.monotonic()
        self._away_since = now if self._away_since is None else self._away_since
        self.check()
        if now - self._away_since >= self._patience_s:
            raise error

    def check(self) -> None:
        """See whether the time is over.

        Raises:
            TimeoutError: it is.
        """
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise TimeoutError(
                f"The execution {self.info['id']} has not ended within {self._timeout_s:g} s; it goes on."
            )


class Execution:
    """One execution in the background. ``info`` is what was heard of it last."""

    def __init__(self, client: httpx.Client, calls: Calls, info: ExecutionInfo) -> None:
        self._client, self._calls, self.info = client, calls, info

    @property
    def id(self) -> str:
        """The id under which the host knows it."""
        return self.info["id"]

    def follow(self, *, timeout_s: float | None = None) -> Iterator[ExecutionInfo]:
        """Yield how it is now, and again whenever that has changed, until it has ended.

        A stream that breaks is asked for again; a host that does not come back within the client's timeout is an error.

        Raises:
            TimeoutError: it has not ended within ``timeout_s``, and goes on.
            NotFound: there is no such execution.
            ManagerUnavailable, OutcomeUnknown: the host is away.
        """
        following = Following(self.info, self._calls.timeout_s, timeout_s)
        while True:
            try:
                with self._client.stream(**following.request()) as answer:
                    if not answer.is_success:
                        answer.read()
                        self._calls.answered(answer)
                    for line in answer.iter_lines():
                        if (info := following.take(line)) is not None:
                            self.info = info
                            yield info
                            if ended(info):
                                return
            except httpx.HTTPError as error:
                following.broken(self._calls.broken(error))
            time.sleep(PAUSE_S)

    @overload
    def result(self, returns: type[T], *, timeout_s: float | None = None) -> T: ...

    @overload
    def result(self, returns: Any = None, *, timeout_s: float | None = None) -> Any: ...

    def result(self, returns: Any = None, *, timeout_s: float | None = None) -> Any:
        """Wait until it has ended, and return its result.

        Args:
            returns: the type of the result, as for ``ActionsClient.run``.
            timeout_s: how long to wait; None for as long as it takes.

        Raises:
            TimeoutError: it goes on.
            Base04Error: it has failed, or the host is away.
            ExecutionCancelled: it was cancelled.
        """
        if not ended(self.info):
            for _ in self.follow(timeout_s=timeout_s):
                pass
        return self._calls.typed(result_of(self.info), returns, self.info["action"])

    def cancel(self) -> ExecutionInfo:
        """Cancel it, and return how it is; one that runs ends shortly afterwards, one that has ended stays as it is."""
        self.info = self._calls.answered(self._calls.send(self._client, "POST", path_of_execution(self.id, "/cancel")))
        return self.info


class AsyncExecution:
    """As ``Execution``, to be awaited."""

    def __init__(self, client: httpx.AsyncClient, calls: Calls, info: ExecutionInfo) -> None:
        self._client, self._calls, self.info = client, calls, info

    @property
    def id(self) -> str:
        """The id under which the host knows it."""
        return self.info["id"]

    async def follow(self, *, timeout_s: float | None = None) -> AsyncIterator[ExecutionInfo]:
        """Yield how it is now, and again whenever that has changed, as ``Execution.follow`` does."""
        following = Following(self.info, self._calls.timeout_s, timeout_s)
        while True:
            try:
                async with self._client.stream(**following.request()) as answer:
                    if not answer.is_success:
                        await answer.aread()
                        self._calls.answered(answer)
                    async for line in answer.aiter_lines():
                        if (info := following.take(line)) is not None:
                            self.info = info
                            yield info
                            if ended(info):
                                return
            except httpx.HTTPError as error:
                following.broken(self._calls.broken(error))
            await asyncio.sleep(PAUSE_S)

    @overload
    async def result(self, returns: type[T], *, timeout_s: float | None = None) -> T: ...

    @overload
    async def result(self, returns: Any = None, *, timeout_s: float | None = None) -> Any: ...

    async def result(self, returns: Any = None, *, timeout_s: float | None = None) -> Any:
        """Wait until it has ended, and return its result, as ``Execution.result`` does."""
        if not ended(self.info):
            async for _ in self.follow(timeout_s=timeout_s):
                pass
        return self._calls.typed(result_of(self.info), returns, self.info["action"])

    async def cancel(self) -> ExecutionInfo:
        """Cancel it, as ``Execution.cancel`` does."""
        answer = await self._calls.send_async(self._client, "POST", path_of_execution(self.id, "/cancel"))
        self.info = self._calls.answered(answer)
        return self.info
