"""Every command, beside a running host and without one."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import httpx2 as httpx
import pytest

from serve_kit import BASE04, PATIENCE_S, Server, environment, install, run_base04, write

PACK = """
pack: sums
version: 2.1.0
actions:
  add:
    summary: Add two numbers
    description: It adds them.
    handler: .sums:add
    parameters:
      left: {type: number, description: The one}
      right: {type: [number, "null"], default: 2}
    required: [left]
    timeout: 5s
    rate_limit: 100/minute
  fail: {summary: Fail, handler: ".sums:fail", access: {permissions: [sums.fail]}}
"""
HANDLERS = """
async def add(left, right):
    return left + right

def fail():
    raise RuntimeError("the secret of the handler")
"""
SETTINGS = "managers: {action_discovery: {folders: [actions]}}\n"


@pytest.fixture(scope="module", params=["running", "alone"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with actions, in which a host runs or not: commands answer alike."""
    found: Path = tmp_path_factory.mktemp(request.param)
    write(found / "actions" / "sums.yaml", PACK)
    write(found / "actions" / "sums.py", HANDLERS)
    write(found / "base04.yaml", SETTINGS)
    if request.param == "alone":
        yield found
        return
    with Server(found) as server:
        assert server.url
        yield found


def json_of(*arguments: str, cwd: Path, **options: Any) -> Any:
    """Run a command that must succeed, and return the JSON that it prints."""
    done = run_base04(*arguments, cwd=cwd, **options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def refusal(*arguments: str, cwd: Path, status: int = 1, **options: Any) -> str:
    """Run a command that must be refused, in words and not with a traceback, and return them."""
    done = run_base04(*arguments, cwd=cwd, **options)
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr


# Actions


def test_packs_are_listed(folder: Path) -> None:
    found = json_of("actions", "packs", "--json", cwd=folder)["packs"]
    assert found["sums"]["version"] == "2.1.0"
    assert sorted(found["sums"]["actions"]) == ["sums.add", "sums.fail"]
    heads, *lines = run_base04("actions", "packs", cwd=folder).stdout.splitlines()
    assert heads.split() == ["pack", "version", "summary", "actions", "requires", "defined"]
    assert any(line.startswith("sums") and "sums.yaml" in line for line in lines)


def test_actions_are_listed_and_shown(folder: Path) -> None:
    assert sorted(json_of("actions", "list", "--json", cwd=folder)["actions"]) == ["sums.add", "sums.fail"]
    table = run_base04("actions", "list", cwd=folder).stdout
    assert "Add two numbers" in table
    assert "sums.fail" in table
    shown = run_base04("actions", "show", "sums.add", cwd=folder).stdout
    for part in ("sums 2.1.0", "It adds them.", "required", "default 2", "number or null", "5 s", "sums.yaml:"):
        assert part in shown
    assert json_of("actions", "show", "add", "--json", cwd=folder)["name"] == "sums.add"


def test_action_takes_words_json_or_standard_input(folder: Path) -> None:
    assert json_of("actions", "run", "sums.add", "left=3", cwd=folder) == 5
    assert json_of("actions", "run", "add", "left=3", "right=-1.5", "--json", cwd=folder) == 1.5
    assert json_of("actions", "run", "sums.add", '{"left": 1, "right": 1}', cwd=folder) == 2
    assert json_of("actions", "run", "sums.add", "-", cwd=folder, stdin='{"left": 1e3}') == 1002


def test_action_that_cannot_be_run_says_why(folder: Path) -> None:
    wrong = refusal("actions", "run", "sums.add", "left=many", "more=1", cwd=folder)
    assert "/left" in wrong
    assert "/more" in wrong
    assert "'sums.add'" in refusal("actions", "run", "sums.ad", cwd=folder)
    assert "'sums.add'" in refusal("actions", "show", "sums.ad", cwd=folder)
    assert "There is no action" in refusal("actions", "run", "a/b c%2F?x=1#y", cwd=folder)


def test_words_that_are_no_arguments_are_used_wrongly(folder: Path) -> None:
    assert "name=value" in refusal("actions", "run", "sums.add", "left", cwd=folder, status=2)
    assert "not JSON" in refusal("actions", "run", "sums.add", "{left: 1}", cwd=folder, status=2)
    assert "JSON object" in refusal("actions", "run", "sums.add", "-", cwd=folder, status=2, stdin="[1]")


def test_handler_that_fails_is_told_without_detail(folder: Path) -> None:
    done = run_base04("actions", "run", "sums.fail", cwd=folder)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("base04: The action failed")
    assert "secret" not in last


# The host


def test_plugins_managers_and_graph_have_json_and_tables(folder: Path) -> None:
    plugins = {item["name"]: item for item in json_of("plugins", "--json", cwd=folder)["plugins"]}
    assert plugins["builtin-redis"]["source"] == "builtin"
    assert "redis:memory" in run_base04("plugins", cwd=folder).stdout
    managers = {item["manager"]: item for item in json_of("managers", "--json", cwd=folder)["managers"]}
    assert managers["redis"]["provider"] == "memory"
    table = run_base04("managers", cwd=folder).stdout
    assert "needed by" in table
    assert len(table.splitlines()) == 15
    graph = json_of("graph", "--json", cwd=folder)
    assert len(graph["nodes"]) == 13
    assert run_base04("graph", "--format", "mermaid", cwd=folder).stdout.startswith("flowchart TD\n")
    assert run_base04("graph", "--format", "dot", cwd=folder).stdout.startswith("digraph base04 {\n")
    drawn = ElementTree.fromstring(run_base04("graph", "--format", "svg", cwd=folder).stdout)
    assert len([*drawn.iter("{http://www.w3.org/2000/svg}rect")]) == 13
    tree = run_base04("graph", cwd=folder).stdout
    assert "api_key (database)\n    database (sqlite)\n" in tree


def test_health_has_an_exit_status(tmp_path: Path) -> None:
    assert "No host runs" in refusal("health", cwd=tmp_path, status=3)
    with Server(tmp_path) as server:
        assert server.url
        found = json_of("health", "--json", cwd=tmp_path)
        assert found["status"] == "healthy"
        assert run_base04("health", cwd=tmp_path).stdout.splitlines()[-1] == "healthy"
        assert server.stop() == 0
    assert run_base04("health", cwd=tmp_path).returncode == 3


def test_unhealthy_host_has_exit_status_1(tmp_path: Path) -> None:
    plugin = """
        from typing import ClassVar
        from base04_hookspecs import Manager, Provider, health_report, hookimpl

        class Ill(Manager):
            role: ClassVar[str] = "ill"
            async def health_check(self):
                return health_report("unhealthy", "it has a cold")

        @hookimpl
        def extra_providers():
            yield Provider("ill", Ill, role="ill")
    """
    install(tmp_path / "site", "acme-ill", plugins={"ill": "acme_ill"}, files={"acme_ill.py": plugin})
    with Server(tmp_path, site=tmp_path / "site") as server:
        assert server.url
        done = run_base04("health", cwd=tmp_path)
        assert done.returncode == 1
        assert "it has a cold" in done.stdout
        with server.client() as client:
            answers = [client.get(path) for path in ("/health", "/health/ready", "/health/live")]
        assert [answer.status_code for answer in answers] == [503, 503, 200]


def test_table_in_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    for command in ("plugins", "plugins --json", "graph", "--help"):
        done = subprocess.run(
            ["/bin/sh", "-c", f"{shlex.quote(str(BASE04))} {command} | true"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", [["plugins"], ["plugins", "--json"]])
def test_listing_plugins_imports_no_provider(tmp_path: Path, command: list[str]) -> None:
    script = (
        "import atexit, sys\n"
        "from base04.cli.program import run\n"
        "atexit.register(lambda: sys.stderr.write('\\n'.join(sys.modules)))\n"
        f"run({command!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    modules = set(done.stderr.split())
    assert "base04_builtin.redis" in modules
    implementations = {
        name for name in modules if (name.startswith("base04_builtin.") and name.count(".") > 1) or name == "sqlalchemy"
    }
    assert implementations == set()
    assert not modules & {"sqlalchemy", "uvicorn", "joserfc", "starlette", "websockets", "sqlite3", "tenacity"}


# Settings


def test_typo_in_the_settings_is_shown_with_its_place(tmp_path: Path) -> None:
    write(tmp_path / "base04.yaml", "server:\n  prot: 80\nmanagers:\n  redis:\n    memory: {}\n    provder: x\n")
    for command in ("serve", "managers", "plugins", "health", "nothing-of-the-kind"):
        told = refusal(command, cwd=tmp_path)
        assert "base04.yaml:2:3: server.prot: There is no such key; did you mean 'port'?" in told
    assert run_base04("--help", cwd=tmp_path).returncode == 0


def test_settings_come_from_another_file_and_from_variables(tmp_path: Path) -> None:
    write(tmp_path / "other.yaml", "data_dir: kept\n")
    assert "'kept'" in refusal("-c", "other.yaml", "health", cwd=tmp_path, status=3)
    assert "'said'" in refusal("-c", "other.yaml", "--data-dir", "said", "health", cwd=tmp_path, status=3)
    assert "'told'" in refusal("health", cwd=tmp_path, status=3, BASE04_DATA_DIR="told")
    assert "missing.yaml" in refusal("-c", "missing.yaml", "health", cwd=tmp_path)
    assert "port" in refusal("serve", cwd=tmp_path, BASE04_SERVER__PORT="many")


def test_provider_that_does_not_exist_lists_those_that_do(tmp_path: Path) -> None:
    write(tmp_path / "base04.yaml", "managers: {redis: {provider: rdis}}\n")
    for command in ("serve", "managers"):
        told = refusal(command, cwd=tmp_path)
        assert "'rdis'" in told
        assert "memory" in told


def test_plugin_that_breaks_the_start_is_shown_with_its_place(tmp_path: Path) -> None:
    plugin = """
        from typing import ClassVar
        from base04_hookspecs import Manager, Provider, health_report, hookimpl

        class Clumsy(Manager):
            role: ClassVar[str] = "clumsy"
            async def start(self):
                self.nowhere
            async def health_check(self):
                return health_report()

        @hookimpl
        def extra_providers():
            yield Provider("clumsy", Clumsy, role="clumsy")
    """
    install(tmp_path / "site", "acme-clumsy", plugins={"clumsy": "acme_clumsy"}, files={"acme_clumsy.py": plugin})
    done = run_base04("serve", "--port", "0", cwd=tmp_path, site=tmp_path / "site")
    assert done.returncode == 1
    assert "acme_clumsy.py" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("base04: The manager clumsy")


# init


def test_init_writes_a_host_that_answers_its_own_example(tmp_path: Path) -> None:
    made = run_base04("init", "my host", cwd=tmp_path)
    assert made.returncode == 0
    assert f"cd {shlex.quote('my host')} && base04 serve" in made.stdout
    folder = tmp_path / "my host"
    with Server(folder) as server:
        command = next(line for line in made.stdout.splitlines() if line.lstrip().startswith("curl"))
        _, _, url, _, header, _, data = shlex.split(command)
        name, _, value = header.partition(": ")
        here = "http://" + url.replace("localhost:8000", server.url.removeprefix("http://"))
        answer = httpx.post(here, headers={name: value}, content=data)
        assert (answer.status_code, answer.json()) == (200, {"message": "Hello, Ada!"})
        assert server.stop() == 0


def test_init_never_overwrites(tmp_path: Path) -> None:
    assert json_of("init", "--json", cwd=tmp_path)["written"] == [
        "base04.yaml",
        "actions/hello.yaml",
        "actions/hello.py",
    ]
    write(tmp_path / "base04.yaml", "# mine\n")
    told = refusal("init", cwd=tmp_path)
    assert "base04.yaml, actions/hello.yaml, actions/hello.py" in told
    assert (tmp_path / "base04.yaml").read_text() == "# mine\n"
