"""What a command talks to: the host that runs in the data folder, or one that it starts for itself."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import unquote

from base04.errors import HostError

if TYPE_CHECKING:
    from base04.app_manager import AppManager
    from base04.settings import HostSettings

T = TypeVar("T")

_TIMEOUT_S = 300.0
_JSON = {"content-type": "application/json"}


class CommandRefused(HostError):
    """The host answered a command with a problem."""

    def __init__(self, message: str, status: int, body: dict[str, Any]) -> None:
        super().__init__(message)
        self.status, self.body = status, body


class Ask(Protocol):
    """Send a request to a host as its own user, and return the status and the JSON that it answers."""

    def __call__(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> Awaitable[tuple[int, Any]]: ...


class Session:
    """One run of the command line: its settings, and its way to a host."""

    def __init__(self, config: Path | None, data_dir: Path | None, *, safe_mode: bool = False) -> None:
        self._config, self.safe_mode = config, safe_mode
        self._settings: HostSettings | None = None
        self._overrides: dict[str, Any] = {} if data_dir is None else {"data_dir": data_dir}
        self._logs_configured = False

    @property
    def settings(self) -> HostSettings:
        """The settings, read when first asked for."""
        if self._settings is None:
            from base04.settings import load_settings

            self._settings = load_settings(self._config, overrides=self._overrides)
        return self._settings

    def override(self, settings: Mapping[str, Any]) -> None:
        """Let these take the place of what is written; they are read anew, where they were read already."""
        self._overrides.update(settings)
        self._settings = None

    @property
    def settings_file(self) -> Path | None:
        """The file that the settings are read from, None where there is none."""
        from base04.settings import DEFAULT_FILE

        return self._config or (DEFAULT_FILE if DEFAULT_FILE.exists() else None)

    def manager(self, only: Iterable[str] | None = None) -> AppManager:
        """Return a host that has not started."""
        from base04.app_manager import AppManager

        self.configure_logs()
        return AppManager(self.settings, safe_mode=self.safe_mode, only=only)

    def configure_logs(self, **always: Any) -> None:
        """Write logs as the settings say, with ``always`` in every line; later calls change nothing."""
        from base04.logs import configure

        if not self._logs_configured:
            configure(self.settings.log, **always)
            self._logs_configured = True

    def running_host(self) -> dict[str, Any] | None:
        """Return what the host that holds the data folder says of itself, None where none runs."""
        from base04.data_folder import DataFolder

        return DataFolder(self.settings.data_dir).holder()

    def ask(self, method: str, path: str, body: Any = None, *, only: Iterable[str] | None = None) -> Any:
        """Ask the running host, or one started for this question alone, and return its answer.

        Args:
            only: the roles to start where no host runs; None starts everything.

        Raises:
            CommandRefused: the answer is a problem.
        """

        async def question(ask: Ask) -> Any:
            return accepted(await ask(method, path, body))

        return self.converse(question, only=only)

    def converse(self, conversation: Callable[[Ask], Awaitable[T]], *, only: Iterable[str] | None = None) -> T:
        """Ask the running host several things, or one that is started for this conversation; return what came of it."""
        return asyncio.run(self._converse(conversation, only))

    async def _converse(self, conversation: Callable[[Ask], Awaitable[T]], only: Iterable[str] | None) -> T:
        holder = self.running_host()
        if holder is None:
            async with own_host(self.manager(only)) as ask:
                return await conversation(ask)
        socket_path = str(holder.get("socket", ""))

        async def ask_running_host(
            method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
        ) -> tuple[int, Any]:
            return await asyncio.to_thread(ask_over_socket, socket_path, method, path, body, headers)

        return await conversation(ask_running_host)


@contextlib.asynccontextmanager
async def own_host(manager: AppManager) -> AsyncIterator[Ask]:
    """Start a host without a server and hand out the way to ask it, through the same ASGI application."""
    from base04.server.control_socket import LocalCaller

    async with manager:
        application = LocalCaller(manager.serve)

        async def ask(
            method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
        ) -> tuple[int, Any]:
            return await _ask_application(application, method, path, body, headers or {})

        yield ask


async def _ask_application(
    application: Callable[..., Awaitable[None]], method: str, path: str, body: Any, headers: Mapping[str, str]
) -> tuple[int, Any]:
    location, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": unquote(location),
        "raw_path": location.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": [(name.encode(), value.encode()) for name, value in {**_JSON, **headers}.items()],
        "client": None,
        "server": None,
    }
    content = b"" if body is None else json.dumps(body).encode()
    messages: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": content, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        messages.append(message)

    await application(scope, receive, send)
    status = next(message["status"] for message in messages if message["type"] == "http.response.start")
    return status, _decoded(b"".join(message.get("body", b"") for message in messages))


def accepted(answer: tuple[int, Any]) -> Any:
    """Return what a host answered.

    Raises:
        CommandRefused: the answer is a problem.
    """
    status, body = answer
    if status >= 400:
        raise CommandRefused(told(body, status), status, body if isinstance(body, dict) else {})
    return body


class _SocketConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def ask_over_socket(
    path: str, method: str, target: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> tuple[int, Any]:
    """Ask the host that listens on a control socket.

    Raises:
        HostError: it does not answer.
    """
    connection = _SocketConnection(path)
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, target, content, {**_JSON, **(headers or {})})
        answer = connection.getresponse()
        return answer.status, _decoded(answer.read())
    except (OSError, http.client.HTTPException) as error:
        raise HostError(
            f"A host holds the data folder, and its control socket {path!r} does not answer: {error}. "
            "It may be starting or stopping; try again."
        ) from error
    finally:
        connection.close()


def _decoded(content: bytes) -> Any:
    if not content:
        return None
    try:
        return json.loads(content)
    except ValueError:
        return content.decode("utf-8", "replace")


def told(answer: Any, status: int) -> str:
    """Say what a problem answer says, for people: its detail and every fault."""
    if not isinstance(answer, dict):
        return f"The host answered {status}."
    lines = [str(answer.get("detail") or answer.get("title") or f"The host answered {status}.")]
    lines += [f"  {item.get('pointer') or '/'}: {item.get('detail')}" for item in answer.get("errors", ())]
    return "\n".join(lines)
