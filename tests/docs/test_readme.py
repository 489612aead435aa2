"""The README, typed from its first line on: it goes on from one block to the next, and answers what it shows.

``pip install`` lays the distributions down, as everywhere in these tests; that a fresh clone can be installed with
pip is what CI begins with.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

from base04 import AppManager
from docs_kit import CHECKOUT, EXAMPLES, SAMPLES, Block, blocks, environment
from shell_kit import Shell, agrees

README = CHECKOUT / "README.md"
TESTED_BY_CI = ".venv/bin/pip install tox && .venv/bin/tox"


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """Return a shell in what looks like a clone, with a ``python3`` whose environments have this Base04."""
    environ = environment(tmp_path / "machine")
    tools = tmp_path / "machine" / "tools"
    made = f'mkdir -p "$3/bin" && cp "{tools}/base04" "{tools}/pip" "$3/bin/"'
    (tools / "python3").write_text(f'#!/bin/sh\n[ "$1 $2" = "-m venv" ] && {made}\n')
    (tools / "python3").chmod(0o755)
    clone = tmp_path / "clone"
    shutil.copytree(SAMPLES, clone / "sample_plugins", ignore=shutil.ignore_patterns("__pycache__"))
    return Shell(clone, environ)


def commands(block: Block) -> list[str]:
    """Return the lines of a block as they are typed, one command each."""
    typed = block.text.replace("\\\n", " ").splitlines()
    return [part for line in typed for part in re.sub(r"^(KEY|TOKEN)=", r"export \1=", line).split(" && ")]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: apt-get install curl")
def test_readme_can_be_followed(shell: Shell) -> None:
    pytest.importorskip("limits", reason="the sample needs the limits library: pip install limits")
    shown = blocks(README, "sh", "json", "text")
    try:
        printed = ""
        for block in shown:
            if block.language != "sh":
                assert agrees(block.text, printed), f"{block} should be\n{block.text}\nand is\n{printed}"
                continue
            if TESTED_BY_CI in block.text:
                continue
            for command in commands(block):
                status, printed = shell.type(command)
                assert status == 0, f"{block}: {command}: {printed}"
        assert "moving_window (replaces builtin-rate-limiter:gcra)" in printed
    finally:
        shell.stop()


def test_all_of_it_was_typed() -> None:
    kinds = {block.language for block in blocks(README)}
    assert kinds == {"sh", "json", "text", "python"}
    assert sum(TESTED_BY_CI in block.text for block in blocks(README, "sh")) == 1
    assert TESTED_BY_CI in (CHECKOUT / ".ci" / "run").read_text(encoding="utf-8")


def test_plugin_of_the_readme_offers_its_provider(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("my_plugin", EXAMPLES / "readme" / "my_plugin.py")
    assert spec is not None
    assert spec.loader is not None
    plugin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)
    app = AppManager({"data_dir": str(tmp_path), "plugins": {"autoload": False}}, plugins=[("mine", plugin)])
    offered = {item["name"]: item["contributes"]["providers"] for item in app.list_plugins()}
    assert offered["mine"] == ["redis:mine"]
