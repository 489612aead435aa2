"""The page in a real browser, across two hosts that share a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from browser import Browser, Tab, running_browser
from chat_host import ChatHost

from base04.testing.servers.redis import RedisServer


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[tuple[ChatHost, ChatHost]]:
    with RedisServer(tmp_path / "redis") as redis:
        one, two = [
            ChatHost(tmp_path / name, redis_url=redis.url, secrets=tmp_path / "secrets.json") for name in ("one", "two")
        ]
        with one, two:
            yield one, two


@pytest.fixture
async def browser(tmp_path: Path) -> AsyncIterator[Browser]:
    async with running_browser(tmp_path) as browser:
        yield browser


async def enter(browser: Browser, host: ChatHost, name: str) -> Tab:
    tab = await browser.tab(f"{host.url}/chat")
    await tab.fill("enter", "name", name)
    await tab.until("document.getElementById('status').dataset.state === 'connected'")
    await tab.until("document.getElementById('room').textContent === 'lobby'")
    return tab


async def shows(tab: Tab, *lines: str) -> None:
    """Wait until the lines are these."""
    await tab.until(f"document.querySelectorAll('#lines li').length >= {len(lines)}")
    assert await tab.texts("#lines li") == list(lines)


async def here(tab: Tab, *names: str) -> None:
    """Wait until these are who is in the room."""
    wanted = ",".join(names)
    await tab.until(
        f"[...document.querySelectorAll('#users li')].map((each) => each.textContent).join() === '{wanted}'"
    )


async def test_two_people_on_two_hosts_talk_and_miss_nothing(
    browser: Browser, hosts: tuple[ChatHost, ChatHost], tmp_path: Path
) -> None:
    one, two = hosts
    ada = await enter(browser, one, "ada")
    bob = await enter(browser, two, "bob")
    await here(ada, "ada", "bob")
    await here(bob, "ada", "bob")
    await ada.fill("say", "text", "Hello, <b>Bob</b>!")
    await shows(bob, "adaHello, <b>Bob</b>!")
    await bob.fill("say", "text", "Hello, Ada.")
    for tab in (ada, bob):
        await shows(tab, "adaHello, <b>Bob</b>!", "bobHello, Ada.")

    await asyncio.to_thread(two.kill)
    await bob.until("document.getElementById('status').dataset.state === 'connecting'")
    await here(ada, "ada")  # the lease of a host that died without a word has ended
    await ada.fill("say", "text", "Are you there?")
    await shows(ada, "adaHello, <b>Bob</b>!", "bobHello, Ada.", "adaAre you there?")
    await asyncio.to_thread(two.start)
    await bob.until("document.getElementById('status').dataset.state === 'connected'")
    await here(ada, "ada", "bob")
    await bob.fill("say", "text", "Here I am.")
    for tab in (ada, bob):
        await shows(tab, "adaHello, <b>Bob</b>!", "bobHello, Ada.", "adaAre you there?", "bobHere I am.")
        assert await tab.texts("#lines .note") == []

    eve = await enter(browser, two, "eve")
    await shows(eve, "adaHello, <b>Bob</b>!", "bobHello, Ada.", "adaAre you there?", "bobHere I am.")
    (tmp_path / "page.png").write_bytes(await ada.screenshot())  # kept for people to look at
    assert browser.errors == []


async def test_rooms_are_apart(browser: Browser, hosts: tuple[ChatHost, ChatHost]) -> None:
    one, two = hosts
    ada = await enter(browser, one, "ada")
    bob = await enter(browser, two, "bob")
    for tab in (ada, bob):
        await tab.fill("join", "room", "garden")
        await tab.until("document.getElementById('room').textContent === 'garden'")
    await here(bob, "ada", "bob")
    await ada.fill("say", "text", "The garden.")
    await shows(bob, "adaThe garden.")
    await bob.evaluate("document.querySelector('#rooms button').click()")
    await bob.until("document.getElementById('room').textContent === 'lobby'")
    assert await bob.texts("#lines li") == []
    assert await bob.texts("#rooms button") == ["lobby", "garden"]
    assert browser.errors == []
