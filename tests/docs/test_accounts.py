"""The pack of accounts: what its page says of overrides, plugins, secrets, the client and its tests is so."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs_kit import EXAMPLES
from serve_kit import Server, environment, run_base04


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    target = tmp_path / "accounts"
    shutil.copytree(EXAMPLES / "accounts", target, ignore=shutil.ignore_patterns("__pycache__"))
    return target


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder to its end."""
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=120, check=False)


def test_pack_has_no_faults_and_overrides_hold(folder: Path) -> None:
    ran = run_base04("actions", "validate", cwd=folder)
    assert (ran.returncode, ran.stdout) == (0, "3 actions, no faults.\n"), ran.stdout
    shown = run_base04("actions", "show", "accounts.open", cwd=folder).stdout
    assert "accounts.open, shop.staff" in shown
    assert "timeout   2 s" in shown
    assert "limits    5/minute" in shown
    assert run_base04("actions", "show", "accounts.close", cwd=folder).returncode == 1


def test_packs_of_the_plugin_run(folder: Path) -> None:
    assert run_base04("actions", "run", "reports.north", cwd=folder).stdout == '{\n  "region": "north"\n}\n'


def test_tests_of_the_pack_pass(folder: Path) -> None:
    (folder / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    ran = python("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "3 passed" in ran.stdout


def test_client_opens_one_account_and_the_log_does_not_tell_the_password(folder: Path) -> None:
    with Server(folder) as server:
        for _ in range(2):
            ran = python("client.py", server.url, server.admin_key, "bob", cwd=folder)
            assert ran.stdout == "Account(user='bob', plan='free', country='DE')\n", ran.stderr
        assert server.stop() == 0
        assert '"an account was opened"' in server.stderr.text
        assert "correct horse" not in server.stderr.text
