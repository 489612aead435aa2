"""A stand-in for a HashiCorp Vault that speaks its HTTP interface, for tests of whatever talks to one.

It has what the built-in provider and most clients of secrets need: KV version 2 with check-and-set, deletion, metadata
and lists; AppRole and Kubernetes logins; tokens that are looked up, renewed, revoked, and end; ``sys/health`` with its
status codes; sealed and standby states. It has no policies but ``deny``, no namespaces, no leases and no storage.
"""

from __future__ import annotations

import json
import secrets
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

from base04.testing.servers.vault_model import Mode, Refusal, Role, VaultModel

_HEALTH: Final = {"active": 200, "standby": 429, "performance_standby": 473, "disaster_recovery": 472}


@dataclass(frozen=True, slots=True)
class VaultRequest:
    """A request as it came in; ``token`` is what it was authorised by."""

    method: str
    path: str
    token: str | None
    namespace: str | None
    body: dict[str, Any]


class VaultServer:
    """Listens on a free port in threads of its own; what it knows outlives ``kill`` and ``start``.

    ::

        with VaultServer() as vault:
            vault.put("app/database", {"password": "first"})
            client = connect(vault.address, token=vault.root_token)
            vault.seal()

    Every method may be called from any thread and takes effect at once.
    """

    def __init__(self, *, mount: str = "secret", tls: ssl.SSLContext | None = None) -> None:
        self.model = VaultModel(mount=mount)
        self.root_token = self.model.issue_root().text
        self.requests: list[VaultRequest] = []
        """Everything that was asked, in order."""
        self._tls = tls
        self._port = 0
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._awake = threading.Event()
        self._awake.set()
        self._arrived = threading.Condition()

    @property
    def address(self) -> str:
        """Where it listens, as ``VAULT_ADDR`` would say it."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        """The port on 127.0.0.1."""
        return self._port

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Listen, on the same port as before if there was one."""
        if self._server is None:
            self._server = _Server(("127.0.0.1", self._port), self._answered, self._tls)
            self._port = self._server.server_address[1]
            self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
            self._thread.start()

    def kill(self) -> None:
        """Listen no more, and cut every open connection."""
        server, self._server = self._server, None
        self.wake()
        if server is not None and self._thread is not None:
            server.shutdown()
            self._thread.join()
            server.server_close()
            server.cut()

    def cut(self) -> None:
        """Cut every open connection; new ones are accepted."""
        if self._server is not None:
            self._server.cut()

    def hang(self) -> None:
        """Accept requests and answer none until ``wake``."""
        self._awake.clear()

    def wake(self) -> None:
        """Answer again, those who wait as well."""
        self._awake.set()

    def seal(self) -> None:
        """Seal it: everything but its health is refused."""
        self.model.sealed = True

    def unseal(self) -> None:
        """Unseal it."""
        self.model.sealed = False

    def become(self, mode: Mode) -> None:
        """Change its part in a cluster, which ``sys/health`` tells."""
        self.model.mode = mode

    def advance(self, seconds: float) -> None:
        """Let its time pass, so that tokens end."""
        self.model.clock_offset += seconds

    def deny(self, path: str, *, kinds: tuple[str, ...] = ("data", "metadata")) -> None:
        """Refuse everybody what is at a path, as a policy would."""
        self.model.denied.update(f"{kind}/{path}" for kind in kinds)

    def put(self, path: str, data: dict[str, Any]) -> None:
        """Write secrets, as another client would."""
        with self.model.lock:
            self.model.write(path, data, None)

    def get(self, path: str) -> dict[str, Any]:
        """Return the secrets of a path."""
        with self.model.lock:
            found: dict[str, Any] = self.model.read(path)["data"]
            return found

    def add_approle(self, role: Role | None = None) -> tuple[str, str]:
        """Add an AppRole, and return its role id and a secret id; ``proof`` of the role is made here."""
        role_id, secret_id = secrets.token_hex(8), secrets.token_hex(16)
        given = role or Role(frozenset())
        self.model.approles[role_id] = Role(frozenset({secret_id}), given.ttl, given.max_ttl, given.renewable)
        return role_id, secret_id

    def add_kubernetes_role(self, name: str, *tokens: str, ttl: float = 3600.0) -> None:
        """Let service accounts with these tokens log in under a role, and no others any more."""
        self.model.kubernetes[name] = Role(frozenset(tokens), ttl)

    def issue(self, ttl: float, *, max_ttl: float = 86_400.0, renewable: bool = True) -> str:
        """Make a token that ends."""
        with self.model.lock:
            return self.model.issue(Role(frozenset(), ttl, max_ttl, renewable)).text

    def revoke_all(self) -> None:
        """Revoke every token but the root token."""
        with self.model.lock:
            self.model.tokens = {self.root_token: self.model.tokens[self.root_token]}

    def count(self, method: str, path: str) -> int:
        """Return how often something was asked; the path is without ``/v1/``."""
        return sum(1 for request in list(self.requests) if (request.method, request.path) == (method, path))

    def wait_for(self, method: str, path: str, times: int, timeout_s: float = 30.0) -> bool:
        """Block until something was asked so often; False where it was not within the timeout."""
        with self._arrived:
            return self._arrived.wait_for(lambda: self.count(method, path) >= times, timeout_s)

    def _answered(self, request: VaultRequest, query: dict[str, str]) -> tuple[int, dict[str, Any] | None]:
        with self._arrived:
            self.requests.append(request)
            self._arrived.notify_all()
        self._awake.wait()
        with self.model.lock:
            try:
                return _Answering(self.model, request, query).answer()
            except Refusal as refusal:
                return refusal.status, refusal.document


class _Answering:
    """One request, answered from the model."""

    def __init__(self, model: VaultModel, request: VaultRequest, query: dict[str, str]) -> None:
        self._model, self._request, self._query = model, request, query
        self._method = "LIST" if request.method == "GET" and query.get("list") == "true" else request.method

    def answer(self) -> tuple[int, dict[str, Any] | None]:
        model, path = self._model, self._request.path
        if path == "sys/health":
            return self._health()
        if not model.initialized or model.sealed:
            raise Refusal(503, "Vault is sealed")
        if model.mode == "disaster_recovery":
            raise Refusal(400, "path disabled in replication DR secondary mode")
        login = {"auth/approle/login": self._approle, "auth/kubernetes/login": self._kubernetes}.get(path)
        if login is not None:
            return 200, login()
        token = model.known(self._request.token)
        if path.startswith("auth/token/"):
            return self._token(path.removeprefix("auth/token/"), token)
        if path == f"sys/internal/ui/mounts/{model.mount}":
            return 200, {"data": {"type": "kv", "options": {"version": model.kv_version}}}
        return self._secret()

    def _health(self) -> tuple[int, dict[str, Any]]:
        model = self._model
        status = 501 if not model.initialized else 503 if model.sealed else _HEALTH[model.mode]
        known = {"initialized": model.initialized, "sealed": model.sealed, "standby": model.mode == "standby"}
        return status, {**known, "server_time_utc": int(model.now()), "version": "1.20.0"}

    def _approle(self) -> dict[str, Any]:
        role = self._model.approles.get(str(self._request.body.get("role_id")))
        if role is None or self._request.body.get("secret_id") not in role.proof:
            raise Refusal(400, "invalid role or secret ID")
        return self._logged_in(role)

    def _kubernetes(self) -> dict[str, Any]:
        name = self._request.body.get("role")
        role = self._model.kubernetes.get(str(name))
        if role is None:
            raise Refusal(400, f'invalid role name "{name}"')
        if self._request.body.get("jwt") not in role.proof:
            raise Refusal(403, "permission denied")
        return self._logged_in(role)

    def _logged_in(self, role: Role) -> dict[str, Any]:
        return self._auth(self._model.issue(role))

    def _auth(self, token: Any) -> dict[str, Any]:
        life = self._model.remaining(token)
        return {"auth": {"client_token": token.text, "lease_duration": life, "renewable": token.renewable}}

    def _token(self, what: str, token: Any) -> tuple[int, dict[str, Any] | None]:
        if what == "lookup-self":
            ends = None if token.ends is None else str(token.ends)
            data = {"ttl": self._model.remaining(token), "renewable": token.renewable, "expire_time": ends}
            return 200, {"data": data}
        if what == "renew-self":
            return 200, self._auth(self._model.renew(token))
        if what == "revoke-self":
            self._model.tokens.pop(token.text, None)
            return 204, None
        raise Refusal(404, "unsupported path")

    def _secret(self) -> tuple[int, dict[str, Any] | None]:
        model, method = self._model, self._method
        mount, _, rest = self._request.path.removeprefix(model.mount).partition("/")
        kind, _, path = rest.partition("/")
        if not self._request.path.startswith(f"{model.mount}/") or mount or kind not in ("data", "metadata"):
            raise Refusal(404, f"no handler for route {self._request.path!r}. route entry not found.")
        path = path.strip("/")
        if f"{kind}/{path}" in model.denied:
            raise Refusal(403, "1 error occurred:\n\t* permission denied\n\n")
        if kind == "metadata":
            if method == "LIST":
                return 200, {"data": {"keys": model.names(path)}}
            if method == "DELETE":
                model.versions.pop(path, None)
                return 204, None
            return 200, {"data": model.metadata(path)}
        if method in ("POST", "PUT"):
            body = self._request.body
            return 200, {"data": model.write(path, body["data"], body.get("options", {}).get("cas"))}
        if method == "DELETE":
            model.delete(path)
            return 204, None
        return 200, {"data": model.read(path, int(self._query.get("version", 0)) or None)}


Answer = Callable[[VaultRequest, dict[str, str]], tuple[int, dict[str, Any] | None]]


class _Server(ThreadingHTTPServer):
    """Keeps track of connections, so that they can be cut."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, address: tuple[str, int], answer: Answer, tls: ssl.SSLContext | None) -> None:
        self.answer = answer
        self._open: set[socket.socket] = set()
        super().__init__(address, _Handler)
        if tls is not None:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def cut(self) -> None:
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients of the tests come and go as they like."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _respond(self) -> None:
        url = urlsplit(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else {}
        path = unquote(url.path.removeprefix("/v1/"))
        token, namespace = self.headers.get("X-Vault-Token"), self.headers.get("X-Vault-Namespace")
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        status, document = self.server.answer(VaultRequest(self.command, path, token, namespace, body), query)
        content = b"" if document is None else json.dumps(document).encode()
        self.send_response(status)
        if content:
            self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = do_LIST = do_HEAD = _respond  # noqa: N815 - named by http.server

    def log_message(self, format: str, *args: object) -> None:
        """Write nothing."""


__all__ = ["Role", "VaultRequest", "VaultServer"]
