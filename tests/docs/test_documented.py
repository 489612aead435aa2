"""Nothing that there is goes unsaid: routes, errors, metrics, events, options; and what is said is there."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector, CollectorRegistry
from typer.main import get_command

import base04
import base04_builtin
from base04 import AppManager
from base04.cli.program import program
from base04.http.gate import Gate
from base04.http.stack import host_routes
from base04.metrics.exposition import HostCollector
from base04.workers.exposition import of_workers
from base04.workers.messages import Roster
from base04_hookspecs import errors
from docs_kit import DOCS, is_generated, pages

ERRORS = [item for item in vars(errors).values() if inspect.isclass(item) and issubclass(item, errors.Base04Error)]
HAND = {page.name: page.read_text(encoding="utf-8") for page in pages() if not is_generated(page)}
BY_HAND = "\n".join(HAND.values())
OF_PLUGINS = ("/hello", "/whoami", "/version", "/visits", "/chat", "/reports", "/static/base04.js")
"""Routes of the pages' own examples, and what is no route of the API."""


def reference(name: str) -> str:
    return (DOCS / "reference" / name).read_text(encoding="utf-8")


def without_names(path: str) -> str:
    """Return a path whose parameters have no names: pages call them as they like."""
    return re.sub(r"{[^}]*}", "{}", path)


@pytest.fixture
async def app(tmp_path: Path) -> Any:
    async with AppManager({"data_dir": str(tmp_path)}, safe_mode=True) as app:
        yield app


def routes(app: AppManager) -> set[tuple[str, str]]:
    generation = app.newest
    assert generation is not None
    found = {
        (method, without_names(route.path))
        for route in host_routes(generation, app, Gate(generation, app))
        for method in {*(route.methods or ())} - {"HEAD"}
    }
    return found | {("POST", "/actions/{}")}


async def test_every_route_is_documented(app: AppManager) -> None:
    table = {
        (method, without_names(path))
        for method, path in re.findall(r"^\| `([A-Z]+) ([^`]+)` \|", reference("http.md"), re.M)
    }
    assert table == routes(app)
    for _, path in routes(app):
        beginning = path.partition("{")[0].rstrip("/")
        spoken_of = f"`{beginning}" in BY_HAND or f" {beginning}" in BY_HAND
        assert spoken_of or path.startswith("/docs/page."), f"no page speaks of {path}"


def test_every_permission_of_a_route_is_in_the_table_of_the_page() -> None:
    demanded = {*re.findall(r"^\| `[A-Z]+ [^`]+` \| `([\w.]+)` \|", reference("http.md"), re.MULTILINE)}
    assert len(demanded) > 8
    table = HAND["run.md"].partition("| route | permission |")[2].partition("\n\n")[0]
    assert not [permission for permission in demanded if f"`{permission}`" not in table]


async def test_every_route_that_a_page_names_is_there(app: AppManager) -> None:
    there = [
        (method, re.compile(re.escape(path).replace(r"\{\}", "[^?]+") + r"(\?.*)?$")) for method, path in routes(app)
    ]
    for page, text in HAND.items():
        for method, path in re.findall(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`\s]*)`", text):
            known = any(method == other and pattern.match(without_names(path)) for other, pattern in there)
            assert known or path.startswith(OF_PLUGINS), f"docs/{page}: there is no {method} {path}"


class OfWorkers(Collector):
    """What a host with several workers tells beside."""

    def collect(self) -> Iterator[Metric]:
        yield from of_workers((), Roster(1, (), 0))


async def test_every_metric_is_documented(app: AppManager) -> None:
    assert app.newest is not None
    registry = CollectorRegistry(auto_describe=False)
    registry.register(HostCollector(app, app.newest))
    registry.register(OfWorkers())
    told = {*re.findall(r"^# TYPE (\S+)", generate_latest(registry).decode(), re.MULTILINE)}
    assert len(told) > 10
    listed = {*re.findall(r"^\| `(base04_\w+)`", reference("metrics.md"), re.MULTILINE)}
    assert listed == told
    named = {*re.findall(r"`(base04_\w+)`", HAND["watch.md"])}
    assert named >= told, f"watch.md does not name {told - named}"
    assert {*re.findall(r"`(base04_\w+_\w+)`", BY_HAND)} - told <= {"base04_hookspecs", "base04_builtin"}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_every_error_is_documented(error: type[Exception]) -> None:
    page = reference("errors.md")
    assert f"### `{error.__name__}`" in page
    assert re.search(rf"^.*[├└─ ]{error.__name__}\b|^{error.__name__}$", page, re.MULTILINE)


def _leaves(commands: dict[str, Any], above: str = "base04") -> Iterator[tuple[str, Any]]:
    for name, command in commands.items():
        if hasattr(command, "commands"):
            yield from _leaves(command.commands, f"{above} {name}")
        else:
            yield f"{above} {name}", command


COMMANDS = [("base04", get_command(program)), *_leaves(get_command(program).commands)]  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "command"), COMMANDS, ids=[name for name, _ in COMMANDS])
def test_every_option_is_documented_with_what_it_does(name: str, command: Any) -> None:
    (section,) = re.findall(rf"^## `{name}(?: \[[^`]*)?`\n(.*?)(?=^## |\Z)", reference("commands.md"), re.M | re.S)
    assert section.strip()
    for item in command.params:
        for flag in item.opts if item.param_type_name == "option" else ():
            if flag not in ("--install-completion", "--show-completion", "--help"):
                assert re.search(rf"^\* `[^`]*{flag}[^`]*`: \S", section, re.MULTILINE), f"{name} {flag} says nothing"


def written_events() -> set[str]:
    """Return the audit events that the code records, found where it does."""
    found = set()
    for package in (base04, base04_builtin):
        for path in Path(package.__path__[0]).rglob("*.py"):
            for text in re.findall(r'"([a-z_]+\.[a-z_]+)", "(?:success|denied|error)"', path.read_text("utf-8")):
                found.add(text)
            for call in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(call, ast.Call) and ast.unparse(call.func).endswith(("_handed_out", "written_down")):
                    found |= {
                        item.value
                        for item in call.args
                        if isinstance(item, ast.Constant) and isinstance(item.value, str) and "." in item.value
                    }
    return found


def test_every_audit_event_is_documented() -> None:
    events = written_events()
    assert {"token.issued", "api_key.created", "api_key.rolled", "state_event.retried"} <= events
    missing = [event for event in sorted(events) if f"`{event}`" not in HAND["write-a-plugin.md"]]
    assert not missing, f"the table of audit events in write-a-plugin.md lacks {missing}"


def test_every_log_event_is_documented() -> None:
    """Whatever is said with a text of its own, at any place of the host and of the built-in plugins."""
    listed = {*re.findall(r"^\| \w+ \| ([^|]*) \|", reference("log-events.md"), re.MULTILINE)}
    for package in (base04, base04_builtin):
        for path in Path(package.__path__[0]).rglob("*.py"):
            inside = path.relative_to(package.__path__[0]).parts
            if {"testing", "templates", "client"} & {*inside}:
                continue
            for text in re.findall(
                r'log(?:ger)?(?:\(\))?\.(?:info|warning|error|exception)\(\s*"([^"]+)"', path.read_text("utf-8")
            ):
                assert text in listed, f"{path}: {text!r} is not on the page of log events"


def test_every_log_event_that_a_page_explains_is_written() -> None:
    listed = {*re.findall(r"^\| \w+ \| ([^|]*) \|", reference("log-events.md"), re.MULTILINE)}
    explained = []
    for text in HAND.values():
        for table in re.findall(r"^\| what the log says \|.*?(?=\n\n)", text, re.MULTILINE | re.DOTALL):
            explained += re.findall(r"^\| `([^`]+)` \|", table, re.MULTILINE)
    assert len(explained) > 5
    assert not [event for event in explained if event not in listed]
