"""The site of the documentation: it is built without a warning, and it is complete without any other host."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from browser_kit import Browser, running_browser
from docs_kit import CHECKOUT, DOCS, pages

pytest.importorskip("material", reason="the site needs the group of packages 'docs': pip install --group docs")

PHONE, DESK = (390, 844), (1280, 900)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site strictly, and return its folder."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environ = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=CHECKOUT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Serve the site, and return where."""
    handler = functools.partial(_Quiet, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with running_browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def place(page: Path) -> str:
    """Return where a page is on the site."""
    path = page.relative_to(DOCS).with_suffix("").as_posix()
    return "" if path == "README" else f"{path}/"


class _Loads(HTMLParser):
    """Collects what a browser loads when it shows a page: not the links that somebody may follow."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag != "a":
            self.found += [given[name] for name in ("src", "srcset", "data", "poster", "action") if name in given]
        if tag == "link" and "canonical" not in given.get("rel", ""):
            self.found.append(given.get("href", ""))
        self.found += re.findall(r"url\(([^)]*)\)", given.get("style", ""))


def test_every_page_is_on_the_site(site: Path) -> None:
    missing = [page.name for page in pages() if not (site / place(page) / "index.html").is_file()]
    assert not missing
    assert not (site / "generate_reference.py").exists()
    assert not (site / "reference_source").exists()


def test_no_file_of_the_site_loads_anything_from_another_host(site: Path) -> None:
    checked = 0
    for file in [*site.rglob("*.html"), *site.rglob("*.css"), *site.rglob("*.svg")]:
        text = file.read_text(encoding="utf-8")
        loads = re.findall(r"url\(['\"]?([^)'\"]*)|@import\s+['\"]([^'\"]*)", text) if file.suffix == ".css" else []
        found = [item for pair in loads for item in pair]
        if file.suffix != ".css":
            reader = _Loads()
            reader.feed(text)
            found += reader.found
        away = [item for item in found if re.match(r"(https?:)?//", item)]
        assert not away, f"{file.relative_to(site)} loads {away}"
        checked += len(found)
    assert checked > 100


def test_pages_ask_nobody_else_for_anything_and_fit_a_phone(address: str, browser: Browser) -> None:
    browser.requests.clear()
    browser.errors.clear()
    browser.show(*PHONE)
    wide = []
    for page in pages():
        browser.open(address + place(page))
        assert browser.evaluate("document.querySelector('h1') !== null"), page
        if browser.evaluate("document.documentElement.scrollWidth > window.innerWidth"):
            wide.append(place(page))
    assert not wide
    assert len(browser.requests) > len(pages())
    assert not [url for url in browser.requests if not url.startswith((address, "blob:", "data:"))]
    assert not browser.errors


@pytest.mark.parametrize(("dark", "scheme"), [(True, "slate"), (False, "default")])
def test_site_is_dark_for_who_prefers_it(address: str, browser: Browser, scheme: str, *, dark: bool) -> None:
    browser.show(*DESK, dark=dark)
    browser.open(address)
    browser.until(f"document.body.dataset.mdColorScheme === '{scheme}'")


def test_search_finds_a_page(address: str, browser: Browser) -> None:
    browser.show(*DESK)
    browser.requests.clear()
    browser.open(address)
    browser.until("document.querySelector('[data-md-component=search-query]')")
    browser.evaluate("document.querySelector('[data-md-component=search-query]').focus()")
    browser.do("Input.insertText", text="trusted_proxies")
    for page in ("run/", "reference/settings/"):
        browser.until(f"document.querySelector('.md-search-result__item a[href*=\"{page}\"]')")
    assert all(url.startswith((address, "blob:", "data:")) for url in browser.requests)


def test_what_is_copied_from_a_session_is_what_is_typed(address: str, browser: Browser) -> None:
    """The theme marks a block while it takes its text for the clipboard."""
    browser.show(*DESK)
    browser.open(address + "tutorial/")
    taken = browser.evaluate(
        "(() => { const code = document.querySelector('code:has(.gp)'); code.setAttribute('data-md-copying', '');"
        "return code.innerText; })()"
    )
    assert taken.split() == ["base04", "init", "base04", "serve"]
