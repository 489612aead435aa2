"""Running the actions of a host over HTTP, with typed results; needs ``pip install 'base04[client]'``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeVar, Unpack, overload

import httpx2 as httpx

from base04.client.calls import ACCEPTED, Calls
from base04.client.executions import (
    AsyncExecution,
    Execution,
    ExecutionFilter,
    ExecutionInfo,
    following,
    path_of_execution,
)
from base04_hookspecs.action_discovery import ActionInfo

T = TypeVar("T")

TIMEOUT_S: Final = 60.0


class ActionsClient:
    """Runs the actions of one host; several threads may share it.

    Args:
        url: where the host serves, ``http://127.0.0.1:8000``.
        api_key, token: what shows who is calling.
        timeout_s: how long an answer may take.

    Errors are those that a handler would raise: ``InvalidInput`` with every fault, ``PermissionDenied``,
    ``RateLimited``, ``ManagerUnavailable`` where the host cannot be reached, ``OutcomeUnknown`` where the connection
    broke, ...
    """

    def __init__(
        self, url: str, *, api_key: str | None = None, token: str | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._calls = Calls(api_key, token, timeout_s)
        self._client = httpx.Client(base_url=url, headers=self._calls.headers, timeout=timeout_s)

    @overload
    def run(self, action: str, args: Mapping[str, Any] | None = None, *, key: str | None = None) -> Any: ...

    @overload
    def run(
        self, action: str, args: Mapping[str, Any] | None = None, *, returns: type[T], key: str | None = None
    ) -> T: ...

    def run(
        self, action: str, args: Mapping[str, Any] | None = None, *, returns: Any = None, key: str | None = None
    ) -> Any:
        """Run an action and return its result; one that runs in the background is followed to its end.

        Args:
            returns: the type of the result: a TypedDict, a dataclass, a pydantic model, ``list[int]``. None for JSON.
            key: an ``Idempotency-Key``: what is sent again under it is not run again.

        Raises:
            Base04Error: the host refused, or the action failed.
            UnexpectedAnswer: the result is not of the type.
        """
        answer = self._send(**self._calls.run(action, args, key))
        answered = self._calls.answered(answer, action)
        if answer.status_code == ACCEPTED:
            return Execution(self._client, self._calls, answered).result(returns)
        return self._calls.typed(answered, returns, action)

    def submit(self, action: str, args: Mapping[str, Any] | None = None, *, key: str | None = None) -> Execution:
        """Run an action in the background, and return the execution once the host has taken it.

        Raises:
            Base04Error: the host refused.
            NotSupported: the host has no executor, so that the action has run to its end instead.
        """
        answer = self._send(**self._calls.run(action, args, key, wait=False))
        return Execution(self._client, self._calls, self._calls.accepted(answer, action))

    def execution(self, identity: str) -> Execution:
        """Return an execution by its id.

        Raises:
            NotFound: there is none, or the caller may not see it.
        """
        return Execution(
            self._client, self._calls, self._calls.answered(self._send("GET", path_of_execution(identity)))
        )

    def executions(self, **asked: Unpack[ExecutionFilter]) -> Iterator[ExecutionInfo]:
        """Yield executions, newest first, page by page; without the permission ``executions.read`` the caller's own."""
        query: dict[str, Any] | None = dict(asked)
        while query is not None:
            page = self._calls.answered(self._send("GET", "/executions", params=query))
            yield from page["executions"]
            query = following(query, page["next"])

    def actions(self) -> dict[str, ActionInfo]:
        """Return all actions by full name, as far as the caller may know."""
        found: dict[str, ActionInfo] = self._calls.answered(self._send("GET", "/actions"))["actions"]
        return found

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _send(self, method: str, url: str, **request: Any) -> httpx.Response:
        return self._calls.send(self._client, method, url, **request)


class AsyncActionsClient:
    """As ``ActionsClient``, to be awaited."""

    def __init__(
        self, url: str, *, api_key: str | None = None, token: str | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._calls = Calls(api_key, token, timeout_s)
        self._client = httpx.AsyncClient(base_url=url, headers=self._calls.headers, timeout=timeout_s)

    @overload
    async def run(self, action: str, args: Mapping[str, Any] | None = None, *, key: str | None = None) -> Any: ...

    @overload
    async def run(
        self, action: str, args: Mapping[str, Any] | None = None, *, returns: type[T], key: str | None = None
    ) -> T: ...

    async def run(
        self, action: str, args: Mapping[str, Any] | None = None, *, returns: Any = None, key: str | None = None
    ) -> Any:
        """Run an action and return its result, as ``ActionsClient.run`` does."""
        answer = await self._send(**self._calls.run(action, args, key))
        answered = self._calls.answered(answer, action)
        if answer.status_code == ACCEPTED:
            return await AsyncExecution(self._client, self._calls, answered).result(returns)
        return self._calls.typed(answered, returns, action)

    async def submit(
        self, action: str, args: Mapping[str, Any] | None = None, *, key: str | None = None
    ) -> AsyncExecution:
        """Run an action in the background, as ``ActionsClient.submit`` does."""
        answer = await self._send(**self._calls.run(action, args, key, wait=False))
        return AsyncExecution(self._client, self._calls, self._calls.accepted(answer, action))

    async def execution(self, identity: str) -> AsyncExecution:
        """Return an execution by its id, as ``ActionsClient.execution`` does."""
        answer = await self._send("GET", path_of_execution(identity))
        return AsyncExecution(self._client, self._calls, self._calls.answered(answer))

    async def executions(self, **asked: Unpack[ExecutionFilter]) -> AsyncIterator[ExecutionInfo]:
        """Yield executions, newest first, page by page, as ``ActionsClient.executions`` does."""
        query: dict[str, Any] | None = dict(asked)
        while query is not None:
            page = self._calls.answered(await self._send("GET", "/executions", params=query))
            for info in page["executions"]:
                yield info
            query = following(query, page["next"])

    async def actions(self) -> dict[str, ActionInfo]:
        """Return all actions by full name, as far as the caller may know."""
        found: dict[str, ActionInfo] = self._calls.answered(await self._send("GET", "/actions"))["actions"]
        return found

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def _send(self, method: str, url: str, **request: Any) -> httpx.Response:
        return await self._calls.send_async(self._client, method, url, **request)
