"""What the page on several processes shows is what a host says."""

from __future__ import annotations

import json
from pathlib import Path

from base04.app_manager import AppManager
from base04.settings import load_settings
from base04.testing.servers.redis import RedisServer
from base04.workers.sharing import refuse_what_is_not_shared
from docs_kit import DOCS, EXAMPLES, blocks
from serve_kit import Server, install, run_base04
from shell_kit import agrees
from workers_kit import redis, settings

__all__ = ["redis"]

PAGE = DOCS / "run-several-processes.md"
PLUGIN = "from base04_hookspecs import hookimpl\n\n@hookimpl\ndef routes():\n    return []\n"


def test_refusal_is_that_of_the_page(tmp_path: Path) -> None:
    (block,) = blocks(PAGE, "text")
    command, _, expected = block.text.partition("\n")
    answer = run_base04(*command.removeprefix("$ base04 ").split(), cwd=tmp_path)
    assert answer.returncode == 1
    assert agrees(expected, answer.stderr), answer.stderr


def test_answer_to_a_change_is_that_of_the_page(tmp_path: Path, redis: RedisServer) -> None:
    (block,) = blocks(PAGE, "json")
    install(tmp_path / "site", "acme-bell", plugins={"bell": "acme_bell"}, files={"acme_bell.py": PLUGIN})
    with Server(tmp_path, settings=json.dumps(settings(redis)), site=tmp_path / "site") as server:
        with server.admin() as admin:
            answer = admin.post("/modules/bell/disable").json()
        assert server.stop() == 0
    shown = json.loads(block.text)
    for said, written in zip(answer["workers"], shown["workers"], strict=True):
        said["pid"] = written["pid"]
        said["health"] = said["health"] or written["health"]
    assert answer == shown


def test_settings_of_the_page_are_such_that_workers_can_share() -> None:
    file = EXAMPLES / "servers" / "workers.yaml"
    loaded = load_settings(file)
    assert loaded.server.workers == 4
    refuse_what_is_not_shared(AppManager(loaded).blueprint, 4)
