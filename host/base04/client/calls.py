"""What the clients of actions and executions send, and what they make of the answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

import httpx2 as httpx
import orjson
from pydantic import TypeAdapter, ValidationError

from base04.client.problems import UnexpectedAnswer, error_of
from base04.telemetry.origin import trace_headers
from base04_hookspecs.errors import ManagerUnavailable, NotSupported, OutcomeUnknown

ACCEPTED: Final = 202
"""The status of an answer that comes before the action has run."""


class Calls:
    """What both clients send, and what they make of the answers."""

    def __init__(self, api_key: str | None, token: str | None, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.headers: dict[str, str] = {"accept": "application/json"}
        if api_key is not None:
            self.headers["x-api-key"] = api_key
        if token is not None:
            self.headers["authorization"] = f"Bearer {token}"

    def run(self, action: str, args: Mapping[str, Any] | None, key: str | None, *, wait: bool = True) -> dict[str, Any]:
        """Return the request that runs an action; without ``wait`` in the background, where that can be."""
        headers = {"content-type": "application/json"}
        if not wait:
            headers["prefer"] = "respond-async"
        if key is not None:
            escaped = key.replace("\\", "\\\\").replace('"', '\\"')
            headers["idempotency-key"] = f'"{escaped}"'
        content = orjson.dumps(dict(args or {}))
        return {"method": "POST", "url": path_of_action(action), "content": content, "headers": headers}

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

    def accepted(self, answer: httpx.Response, action: str) -> Any:
        """Return the execution that the host has taken.

        Raises:
            Base04Error: it is a problem.
            NotSupported: the action has run already.
        """
        answered = self.answered(answer, action)
        if answer.status_code != ACCEPTED:
            raise NotSupported(f"The host runs nothing in the background, so {action!r} has run to its end instead.")
        return answered

    def send(self, client: httpx.Client, method: str, url: str, **request: Any) -> httpx.Response:
        """Send a request and return the answer.

        Raises:
            ManagerUnavailable: the host cannot be reached.
            OutcomeUnknown: it did not answer.
        """
        headers = {**request.pop("headers", {}), **trace_headers()}
        try:
            return client.request(method, url, headers=headers, **request)
        except httpx.HTTPError as error:
            raise self.broken(error) from error

    async def send_async(self, client: httpx.AsyncClient, method: str, url: str, **request: Any) -> httpx.Response:
        """As ``send``, to be awaited."""
        headers = {**request.pop("headers", {}), **trace_headers()}
        try:
            return await client.request(method, url, headers=headers, **request)
        except httpx.HTTPError as error:
            raise self.broken(error) from error

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


def path_of_action(action: str) -> str:
    return f"/actions/{quote(action, safe='')}"
