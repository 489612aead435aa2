"""Running the actions of a host over HTTP, with typed results; needs ``pip install 'base04[client]'``."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self, TypeVar, overload
from urllib.parse import quote

import httpx2 as httpx
import orjson
from pydantic import TypeAdapter, ValidationError

from base04.client.problems import UnexpectedAnswer, error_of
from base04_hookspecs.action_discovery import ActionInfo
from base04_hookspecs.errors import ManagerUnavailable, OutcomeUnknown

T = TypeVar("T")

TIMEOUT_S: Final = 60.0


class _Calls:
    """What both clients send, and what they make of the answers."""

    def __init__(self, api_key: str | None, token: str | None) -> None:
        self.headers: dict[str, str] = {"accept": "application/json"}
        if api_key is not None:
            self.headers["x-api-key"] = api_key
        if token is not None:
            self.headers["authorization"] = f"Bearer {token}"

    def run(self, action: str, args: Mapping[str, Any] | None, key: str | None) -> dict[str, Any]:
        """Return the request that runs an action."""
        headers = {"content-type": "application/json"}
        if key is not None:
            escaped = key.replace("\\", "\\\\").replace('"', '\\"')
            headers["idempotency-key"] = f'"{escaped}"'
        content = orjson.dumps(dict(args or {}))
        return {"method": "POST", "url": _path(action), "content": content, "headers": headers}

    def answered(self, answer: httpx.Response, action: str = "") -> Any:
        """Return what the host answered.

        Raises:
            Base04Error: it is a problem.
        """
        try:
            body = orjson.loads(answer.content)
        except orjson.JSONDecodeError:
            body = None
        if answer.is_success and (body is not None or answer.content == b"null"):
            return body
        raise error_of(answer.status_code, body, answer.headers, action)

    def typed(self, result: Any, returns: Any, action: str) -> Any:
        """Return a result as the type that the caller expects."""
        if returns is None:
            return result
        try:
            return TypeAdapter(returns).validate_python(result)
        except ValidationError as error:
            name, first = getattr(returns, "__name__", returns), error.errors()[0]
            message = f"The result of {action!r} is no {name}: {first['msg']}, at {list(first['loc'])}."
            raise UnexpectedAnswer(message, 200, {}) from error

    def broken(self, error: httpx.HTTPError) -> ManagerUnavailable | OutcomeUnknown:
        """Return the error for a request that was not answered."""
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout):
            return ManagerUnavailable(f"The host cannot be reached: {error}.")
        return OutcomeUnknown(f"The host did not answer, and may have run the action: {type(error).__name__}: {error}.")


def _path(action: str) -> str:
    return f"/actions/{quote(action, safe='')}"


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
        self._calls = _Calls(api_key, token)
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
        """Run an action and return its result.

        Args:
            returns: the type of the result: a TypedDict, a dataclass, a pydantic model, ``list[int]``. None for JSON.
            key: an ``Idempotency-Key``: what is sent again under it is not run again.

        Raises:
            Base04Error: the host refused, or the action failed.
            UnexpectedAnswer: the result is not of the type.
        """
        answer = self._send(**self._calls.run(action, args, key))
        return self._calls.typed(self._calls.answered(answer, action), returns, action)

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
        try:
            return self._client.request(method, url, **request)
        except httpx.HTTPError as error:
            raise self._calls.broken(error) from error


class AsyncActionsClient:
    """As ``ActionsClient``, to be awaited."""

    def __init__(
        self, url: str, *, api_key: str | None = None, token: str | None = None, timeout_s: float = TIMEOUT_S
    ) -> None:
        self._calls = _Calls(api_key, token)
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
        return self._calls.typed(self._calls.answered(answer, action), returns, action)

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
        try:
            return await self._client.request(method, url, **request)
        except httpx.HTTPError as error:
            raise self._calls.broken(error) from error
