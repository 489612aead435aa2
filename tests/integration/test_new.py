"""What `base04 new` writes installs, passes its own tests, type-checks, and shows up: at once."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from serve_kit import environment, run_base04

PATIENCE_S = 300.0


@pytest.fixture(scope="session")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What mypy has learnt of Base04; the first distribution takes longest."""
    return tmp_path_factory.mktemp("mypy")


def check(*command: str, cwd: Path, site: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=cwd,
        env={**environment(site), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("plugin", ()),
        ("pack", ()),
        ("manager", ()),
        ("manager", ("--role", "jwt")),
        ("manager", ("--role", "redis")),
        ("manager", ("--role", "services")),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_new_distribution_works_at_once(tmp_path: Path, mypy_cache: Path, kind: str, more: tuple[str, ...]) -> None:
    name, folder, site = "acme-first", tmp_path / "acme-first", tmp_path / "site"
    written = run_base04("new", kind, name, *more, cwd=tmp_path)
    assert written.returncode == 0, written.stderr
    assert "cd acme-first && pip install -e . --group test" in written.stdout
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == name
    check(
        *("pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(site), "."),
        cwd=folder,
        site=site,
    )
    listed = run_base04("plugins", cwd=tmp_path, site=site)
    assert "acme-first" in listed.stdout, listed.stderr
    assert "failed" not in listed.stdout
    assert " passed" in check("pytest", "-q", "-p", "no:cacheprovider", cwd=folder, site=site)
    check("mypy", "--cache-dir", str(mypy_cache), cwd=folder, site=site)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("plugin", "Bad_Name"), "write small letters, digits and single hyphens"),
        (("plugin", "json"), "a module of that name is Python's or Base04's own"),
        (("pack", "../up"), "cannot be used"),
        (("plugin", "class"), "a module of that name is Python's or Base04's own"),
        (("plugin", "base04-more"), "a module of that name is Python's or Base04's own"),
        (("plugin", "builtin-jwt"), "are those of Base04's own plugins"),
        (("pack", "pytest"), "the module 'pytest' is there already, in "),
        (("manager", "acme--x"), "write small letters, digits and single hyphens"),
        (("plugin", ""), "write small letters, digits and single hyphens"),
        (("manager", "acme-x", "--role", "websocket"), "derive from the contract instead"),
        (("manager", "acme-x", "--role", "nothing"), "Base04 has no such role"),
    ],
)
def test_what_cannot_be_written_is_told(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    done = run_base04("new", *arguments, cwd=tmp_path)
    assert (done.returncode, message in done.stderr) == (1, True), done.stderr
    assert not [item for item in tmp_path.iterdir() if item.name != "base04-data"]


def test_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "acme-x").mkdir()
    (tmp_path / "acme-x" / "mine").write_text("kept")
    done = run_base04("new", "pack", "acme-x", cwd=tmp_path)
    assert (done.returncode, "not empty; nothing was written" in done.stderr) == (1, True)
    assert [file.name for file in (tmp_path / "acme-x").iterdir()] == ["mine"]
