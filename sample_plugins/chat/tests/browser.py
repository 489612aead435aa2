"""A real browser without a window, driven through its DevTools protocol."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

PATIENCE_S: Final = 60.0

_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
)


class Tab:
    """One page, with cookies and storage of its own."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    async def do(self, method: str, **params: Any) -> Any:
        return await self._browser.do(method, self._session, **params)

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression, awaited where it is a promise."""
        answer = await self.do("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    async def until(self, condition: str) -> None:
        """Wait until the page makes a condition true, looking whenever it changes."""
        look = (
            "new Promise((done) => { const look = () => { try { return !!("
            + condition
            + "); } catch { return false; } };"
            "if (look()) return done(true);"
            "const seen = new MutationObserver(() => look() && (seen.disconnect(), done(true)));"
            "seen.observe(document, { subtree: true, childList: true, attributes: true, characterData: true }); })"
        )
        try:
            async with asyncio.timeout(PATIENCE_S):
                assert await self.evaluate(look)
        except TimeoutError:
            raise AssertionError(
                f"{condition} did not come: {await self.evaluate('document.body.innerText')}"
            ) from None

    async def fill(self, form: str, name: str, value: str) -> None:
        """Write into a field and submit its form, as somebody who types does."""
        field = f"document.querySelector('#{form} [name={name}]')"
        await self.until(f"{field} && !{field}.closest('[hidden]')")
        await self.evaluate(f"{field}.focus(), {field}.value = ''")
        await self.do("Input.insertText", text=value)
        await self.evaluate(f"document.getElementById('{form}').requestSubmit()")

    async def texts(self, selector: str) -> list[str]:
        """Return the texts of all elements that a selector finds."""
        found: list[str] = await self.evaluate(
            f"[...document.querySelectorAll({json.dumps(selector)})].map((each) => each.textContent)"
        )
        return found

    async def screenshot(self) -> bytes:
        """Return a picture of the page, as PNG."""
        answer = await self.do("Page.captureScreenshot", format="png")
        return base64.b64decode(answer["data"])


class Browser:
    """A running browser."""

    def __init__(self, wire: ClientConnection) -> None:
        self._wire = wire
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._loads: dict[str, asyncio.Event] = {}
        self.errors: list[str] = []

    async def tab(self, url: str) -> Tab:
        """Open a page, and wait until it has been loaded with its scripts."""
        context = (await self.do("Target.createBrowserContext"))["browserContextId"]
        target = await self.do(
            "Target.createTarget", url="about:blank", browserContextId=context, width=1000, height=640
        )
        attached = await self.do("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        tab = Tab(self, attached["sessionId"])
        await tab.do("Runtime.enable")
        await tab.do("Log.enable")
        await tab.do("Page.enable")
        loaded = self._loads[attached["sessionId"]] = asyncio.Event()
        await tab.do("Page.navigate", url=url)
        async with asyncio.timeout(PATIENCE_S):
            await loaded.wait()
        return tab

    async def do(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and return its result."""
        number = next(self._numbers)
        answer: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        command: dict[str, Any] = {"id": number, "method": method, "params": params}
        if session is not None:
            command["sessionId"] = session
        await self._wire.send(json.dumps(command))
        return await answer

    async def read(self) -> None:
        """Take what the browser says, to its end."""
        with contextlib.suppress(ConnectionClosed):
            async for text in self._wire:
                self._take(json.loads(text))

    def _take(self, message: dict[str, Any]) -> None:
        answer = self._answers.pop(message.get("id", 0), None)
        if answer is not None and not answer.done():
            if "error" in message:
                answer.set_exception(RuntimeError(str(message["error"])))
            else:
                answer.set_result(message["result"])
        elif message.get("method") == "Page.loadEventFired":
            self._loads[message["sessionId"]].set()
        elif message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(json.dumps(message["params"]["exceptionDetails"]))
        elif message.get("method") == "Log.entryAdded" and message["params"]["entry"]["source"] == "security":
            self.errors.append(message["params"]["entry"]["text"])


@contextlib.asynccontextmanager
async def running_browser(folder: Path) -> AsyncIterator[Browser]:
    """Start Chromium with an empty profile in a folder; skip the test where there is none."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("There is no chromium: run 'apt-get install chromium'")
    command = [program, *_FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    assert process.stderr is not None
    try:
        async with connect(await _address(process.stderr), max_size=None, proxy=None) as wire:
            browser = Browser(wire)
            tasks = [asyncio.create_task(work) for work in (browser.read(), process.stderr.read())]
            yield browser
            await browser.do("Browser.close")
            await asyncio.gather(*tasks)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


async def _address(printed: asyncio.StreamReader) -> str:
    """Return where the browser takes commands, once it has said so."""
    async with asyncio.timeout(PATIENCE_S):
        async for line in printed:
            _, said, address = line.decode().partition("DevTools listening on ")
            if said:
                return address.strip()
    raise AssertionError("The browser ended before it took commands.")
