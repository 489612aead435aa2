"""A browser without a window, told what to do through its DevTools protocol, for the tests of pages."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from websockets.sync.client import ClientConnection, connect

PATIENCE_S: Final = 60.0
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--remote-debugging-port=0",
)


class Browser:
    """One tab of a running browser. ``requests`` and ``errors`` are what its pages asked for, and what went wrong."""

    def __init__(self, wire: ClientConnection) -> None:
        self._wire, self._numbers, self._session = wire, itertools.count(1), ""
        self._seen: list[str] = []
        self.requests: list[str] = []
        self.errors: list[str] = []
        target = self.do("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.do("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.do(f"{domain}.enable")

    def do(self, method: str, **params: Any) -> Any:
        """Send a command and return its result."""
        number = next(self._numbers)
        command: dict[str, Any] = {"id": number, "method": method, "params": params}
        if self._session:
            command["sessionId"] = self._session
        self._wire.send(json.dumps(command))
        while (answer := self._read()).get("id") != number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, url: str) -> None:
        """Go to a page, and wait until it is loaded with all that belongs to it."""
        self._seen.clear()
        self.do("Page.navigate", url=url)
        while "Page.loadEventFired" not in self._seen:
            self._read()

    def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, awaited where it is a promise."""
        answer = self.do("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait until the page makes a condition true, looking whenever something in it changes."""
        self.evaluate(
            f"new Promise((done) => {{ const look = () => !!({condition}); if (look()) return done();"
            "const seen = new MutationObserver(() => look() && (seen.disconnect(), done()));"
            "seen.observe(document, { subtree: true, childList: true, attributes: true, characterData: true }); })"
        )

    def show(self, width: int, height: int, *, dark: bool = False) -> None:
        """Take a size, and what the reader prefers."""
        self.do("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.do("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self) -> bytes:
        """Return what is to be seen, as PNG."""
        return base64.b64decode(self.do("Page.captureScreenshot", format="png")["data"])

    def _read(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._wire.recv(timeout=PATIENCE_S))
        method, params = message.get("method", ""), message.get("params", {})
        self._seen.append(method)
        if method == "Network.requestWillBeSent":
            self.requests.append(params["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(params["exceptionDetails"]))
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.errors.append(json.dumps(params["entry"]))
        return message


@contextlib.contextmanager
def running_browser(folder: Path) -> Iterator[Browser]:
    """Start Chromium with an empty profile in a folder; skip the test where there is none."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("There is no chromium: run 'apt-get install chromium'")
    command = [program, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
        try:
            assert run.stderr is not None
            said = (line.decode().partition("DevTools listening on ")[2].strip() for line in run.stderr)
            with connect(next(filter(None, said)), max_size=None, proxy=None) as wire:
                reader = threading.Thread(target=run.stderr.read)  # so that the browser never waits to say more
                reader.start()
                yield Browser(wire)
        finally:
            run.terminate()
            run.wait()
        reader.join()
