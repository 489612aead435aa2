"""What the tests of the documentation share: its pages, its code blocks, and a place to try them in."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).parent.parent
DOCS: Final = CHECKOUT / "docs"
EXAMPLES: Final = DOCS / "examples"
SAMPLES: Final = CHECKOUT / "sample_plugins"

_FENCE: Final = re.compile(r"^ *```+ *([^`\n]*)\n(.*?)^ *```+$", re.DOTALL | re.MULTILINE)

_EXAMPLES_END: Final = (".py", ".yaml", ".toml", ".ini", ".mjs", ".conf")


@dataclass(frozen=True, slots=True)
class Block:
    """One fenced block of a page, which is a path in the repository."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def written_pages() -> list[Path]:
    """Return the pages that somebody writes by hand, those at the root of the repository included."""
    return [*(page for page in pages() if not is_generated(page)), CHECKOUT / "README.md", CHECKOUT / "CONTRIBUTING.md"]


def pages() -> list[Path]:
    """Return all pages of the documentation, the generated ones included."""
    return sorted([*DOCS.glob("*.md"), *(DOCS / "reference").rglob("*.md")])


def is_generated(page: Path) -> bool:
    """Tell whether a page belongs to the reference."""
    return page.relative_to(DOCS).parts[0] in ("reference", "reference.md")


def blocks(page: Path, *languages: str) -> list[Block]:
    """Return the blocks of a page in these languages, or in any, in their order."""
    text = page.read_text(encoding="utf-8")
    found = (
        Block(page.relative_to(CHECKOUT).as_posix(), text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for match in _FENCE.finditer(text)
    )
    return [block for block in found if not languages or block.language in languages]


def exchanges(session: list[Block]) -> Iterator[tuple[Block, str, str]]:
    """Yield each command with what it should print."""
    for block in session:
        for part in re.split(r"^(?:\$ |(?=\^C$))", block.text, flags=re.MULTILINE)[1:]:
            lines = part.splitlines()
            count = 1
            while lines[count - 1].endswith("\\"):
                count += 1
            yield block, "\n".join(lines[:count]), "\n".join(lines[count:])


def example_files() -> Iterator[Path]:
    """Yield everything that blocks may be a part of."""
    for folder in (EXAMPLES, SAMPLES):
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".py", ".yaml", ".toml", ".ini", ".mjs", ".conf") and not any(
                part.startswith(".") for part in path.parts
            ):
                yield path


def install(distribution: Path, site: Path) -> None:
    """Lay a distribution of a source folder down as pip does: its packages, its metadata and its entry points."""
    project = tomllib.loads((distribution / "pyproject.toml").read_text(encoding="utf-8"))
    about = project["project"]
    for package in (distribution / "src").iterdir():
        if (package / "__init__.py").is_file():
            shutil.copytree(package, site / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    info = site / f"{about['name'].replace('-', '_')}-{about['version']}.dist-info"
    info.mkdir()
    required = "".join(f"Requires-Dist: {text}\n" for text in about.get("dependencies", ()))
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {about['name']}\nVersion: {about['version']}\n{required}"
    )
    lines = []
    for group, points in about.get("entry-points", {}).items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def environment(folder: Path, *distributions: Path) -> dict[str, str]:
    """Return the environment of a shell that finds ``base04``, ``python`` and the distributions, as one would.

    Its ``pip install`` lays distributions down, for pip would ask an index for what they are built with.
    """
    tools, site = folder / "tools", folder / "site"
    (tools / "scripts").mkdir(parents=True)
    site.mkdir()
    for distribution in distributions:
        install(distribution, site)
    script = tools / "scripts" / "base04"
    script.write_text("from base04.cli import main\n\nmain()\n")
    for name, arguments in (("base04", f'"{script}" '), ("pip", f'"{script.with_name("pip")}" '), ("python", "")):
        tool = tools / name
        tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        tool.chmod(0o755)
    laid_down = (
        f"import sys\nfrom pathlib import Path\n\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from docs_kit import install\n\nassert sys.argv[1] == 'install', sys.argv\n"
        f"for name in sys.argv[2:]:\n    if name != '.':\n        install(Path(name), Path({str(site)!r}))\n"
    )
    (tools / "scripts" / "pip").write_text(laid_down)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BASE04_", "COV_", "COVERAGE_"))}
    return {
        **kept,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(site),
        "HOME": str(folder),
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "COLUMNS": "120",
    }
