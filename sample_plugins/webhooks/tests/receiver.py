"""An endpoint that answers as a test says, in threads of its own."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple, Self

from base04_webhooks import verify

PATIENCE_S: Final = 60.0
SECRET: Final = "whsec_" + "c2VjcmV0IG9mIHRoZSBzYW1wbGUncyB0ZXN0cyE="

Answer = int | tuple[int, dict[str, str]] | Callable[[], int]


class Delivery(NamedTuple):
    """One attempt that arrived."""

    message_id: str
    body: dict[str, Any]


class Receiver:
    """Takes messages whose signature is right; ``answers`` are used one after the other, then 204."""

    def __init__(self, port: int = 0) -> None:
        self.deliveries: list[Delivery] = []
        self.unsigned: list[str] = []
        self.answers: list[Answer] = []
        self._changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                status, headers = receiver._taken({k.lower(): v for k, v in self.headers.items()}, content)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                return

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                return  # a sender that gave up

        self._server = Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """What to post to."""
        return f"http://127.0.0.1:{self.port}/hook"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.shutdown()
        self._thread.join(PATIENCE_S)
        self._server.server_close()

    def wait_for(self, holds: Callable[[list[Delivery]], bool]) -> list[Delivery]:
        """Return what has arrived once it is as it should be."""
        with self._changed:
            assert self._changed.wait_for(lambda: holds(self.deliveries), PATIENCE_S), self.deliveries
            return list(self.deliveries)

    def wait_for_count(self, count: int) -> list[Delivery]:
        """Return what has arrived once it is so much."""
        return self.wait_for(lambda found: len(found) >= count)

    def _taken(self, headers: dict[str, str], content: bytes) -> tuple[int, dict[str, str]]:
        try:
            message_id = verify(SECRET, headers, content)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test looks at
            self.unsigned.append(str(error))
            return 401, {}
        with self._changed:
            answer = self.answers.pop(0) if self.answers else 204
            self.deliveries.append(Delivery(message_id, json.loads(content)))
            self._changed.notify_all()
        if callable(answer):
            return answer(), {}
        return answer if isinstance(answer, tuple) else (answer, {})
