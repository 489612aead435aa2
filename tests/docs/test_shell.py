"""Commands in shell blocks: there are such commands, with such options, and what can be run here is run."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from typer.main import get_command

from base04.cli.program import program
from docs_kit import CHECKOUT, Block, blocks, exchanges, written_pages
from serve_kit import PATIENCE_S, Server

COMMANDS: dict[str, Any] = get_command(program).commands  # type: ignore[attr-defined]  # a group
PROJECT = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))
SHELLS = [block for page in written_pages() for block in blocks(page, "sh")]
SESSIONS = [block for page in written_pages() for block in blocks(page, "console")]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command, without what is set for it alone, and those within ``$(...)``."""
    for inner in re.findall(r"\$\(([^()]*)\)", text):
        yield from commands(inner)
    text = re.sub(r"\$\([^()]*\)", "given", text)
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if set(word) <= set("|&;()<>"):
                while words and re.match(r"[A-Z]\w*=", words[0]):
                    del words[0]
                if words and words[0] != "export":
                    yield words
                words = []
            else:
                words.append(word)


def _base04(words: list[str]) -> None:
    _check_command(words, COMMANDS, get_command(program).params)


def _check_command(words: list[str], known: dict[str, Any], parameters: list[Any]) -> None:
    """Check options and the name of a command, then what comes after it."""
    words = _after_options(words, parameters)
    if not words:
        return
    command = known.get(words[0])
    if command is None:  # a plugin's; the test of the page's session runs it
        assert words[0] == "office", f"there is no command {words[0]!r}"
    elif hasattr(command, "commands"):
        _check_command(words[1:], command.commands, command.params)
    else:
        rest = words[1:]
        while rest:
            rest = _after_options(rest, command.params)[1:]


def _after_options(words: list[str], parameters: list[Any]) -> list[str]:
    """Check the options that come first, and return what is after them and their values."""
    options = {flag: item for item in parameters for flag in (*item.opts, *item.secondary_opts) if flag[0] == "-"}
    position = 0
    while position < len(words) and words[position].startswith("-") and words[position] != "-":
        flag, equals, _ = words[position].partition("=")
        if flag in ("--help", "-h"):
            position += 1
            continue
        assert flag in options, f"there is no option {flag}; there are {', '.join(options)}"
        position += 1 if equals or options[flag].is_flag else 2
    return words[position:]


def _pip(words: list[str]) -> None:
    assert words[0] in ("install", "uninstall"), words
    groups, extras = PROJECT["dependency-groups"], PROJECT["project"]["optional-dependencies"]
    rest = words[1:]
    while rest:
        word, *rest = rest
        if word == "--group":
            assert rest[0] in groups, f"there is no group {rest[0]!r}"
            del rest[0]
        elif word.startswith("-"):
            assert word in ("-U", "-e", "-r"), f"pip's {word} is not known here"
        else:
            name, _, wanted = word.rstrip("]").partition("[")
            assert {*filter(None, wanted.split(","))} <= extras.keys(), f"{word}: there is no such extra"
            known = {re.split(r"[^\w-]", item)[0] for group in groups.values() for item in group}
            assert (CHECKOUT / name).exists() or name in {"base04", "pip", "tox", *known}, f"{name} is not there"


def _python(words: list[str]) -> None:
    if words[0] == "-m":
        assert words[1] in ("pip", "venv", "base04", "base04_hookspecs._generate_blocking"), words
        if words[1] in COMMANDS_OF_OTHERS:
            COMMANDS_OF_OTHERS[words[1]](words[2:])
    else:
        assert (CHECKOUT / words[0]).is_file(), f"there is no file {words[0]}"


def _uvicorn(words: list[str]) -> None:
    assert words[0] == "server:app", words
    _after_options(words[1:], uvicorn.main.params)


def _tox(words: list[str]) -> None:
    written = (CHECKOUT / "tox.ini").read_text(encoding="utf-8")
    for before, word in itertools.pairwise(words):
        assert before != "-e" or f"[testenv:{word}]" in written, f"there is no environment {word}"


def _any(words: list[str]) -> None:
    """Accept what the page's own test runs, or what is nothing of Base04."""


COMMANDS_OF_OTHERS: dict[str, Callable[[list[str]], None]] = {
    "base04": _base04,
    "pip": _pip,
    "python": _python,
    "python3": _python,
    "tox": _tox,
    "uvicorn": _uvicorn,
    "mkdocs": _any,
    "pytest": _any,
    "mypy": _any,
    "curl": _any,
    "sed": _any,
    "cd": _any,
    "mkdir": _any,
    ".": _any,
}
"""How the words after a command are checked; ``curl`` is run below."""


@pytest.mark.parametrize("block", SHELLS, ids=str)
def test_shell_block_has_commands_that_there_are(block: Block) -> None:
    for name, *words in commands(block.text):
        check = COMMANDS_OF_OTHERS.get(name.removeprefix(".venv/bin/"))
        assert check is not None, f"{block}: say in COMMANDS_OF_OTHERS how {name!r} is checked"
        try:
            check(words)
        except AssertionError as error:
            raise AssertionError(f"{block}: {name} {' '.join(words)}: {error}") from error


@pytest.mark.parametrize("block", SESSIONS, ids=str)
def test_session_has_commands_that_there_are(block: Block) -> None:
    for _, typed, _ in exchanges([block]):
        for name, *words in commands(typed):
            if name == "base04":
                _base04(words)


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is missing: apt-get install curl")
def test_curl_blocks_are_answered(tmp_path: Path) -> None:
    """Those of the README belong together; its own test runs them."""
    asking = [block for block in SHELLS if "curl " in block.text and block.page != "README.md"]
    assert asking
    with Server(tmp_path) as server:
        for block in asking:
            typed = block.text.replace("localhost:8000", server.url).replace("curl ", "curl --fail-with-body ")
            done = subprocess.run(
                ["bash", "-e", "-c", typed],
                cwd=tmp_path,
                env={**os.environ, "KEY": server.admin_key},
                capture_output=True,
                text=True,
                timeout=PATIENCE_S,
                check=False,
            )
            assert done.returncode == 0, f"{block}: {done.stdout}{done.stderr}"


def test_wrong_commands_are_found() -> None:
    for wrong in ("serve --prot 1", "keys creat", "--json plugins", "audit --sicne 2h", "keys create --usr ada"):
        with pytest.raises(AssertionError):
            _base04(shlex.split(wrong))
    _base04(shlex.split("--data-dir x keys create --user ada --permission 'notes.*' --name laptop"))
    for wrong in ("install '.[rdis]'", "install sample_plugins/librray", "install -e . --group tset"):
        with pytest.raises(AssertionError):
            _pip(shlex.split(wrong))
