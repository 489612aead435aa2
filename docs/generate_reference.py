"""Write the pages of the reference from the contracts, the settings models, the routes and the command line.

Run ``python docs/generate_reference.py`` after a change to one of them; a test fails until that is done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from base04 import AppManager
from base04.discovery import discover
from base04.graph import Graph, describe_graph
from base04.graph.svg import svg
from base04.settings import PluginSettings
from base04_hookspecs.roles import ROLES
from reference_source import (
    action_files,
    commands,
    contracts,
    errors,
    http_api,
    log_events,
    metrics,
    programs,
    settings,
)
from reference_source.page import Page
from reference_source.running import asked

DOCS: Final = Path(__file__).parent


def pages() -> list[Page]:
    """Return all pages, the index last."""
    found = discover(PluginSettings(), safe_mode=True)
    kinds = [
        (commands.page(), "every command, with its arguments and options"),
        (settings.page(), "every key of `base04.yaml` that is not a provider's own"),
        (contracts.hooks(), "what a plugin can add to the host, one function for each"),
        (contracts.imports(), "`Provider`, `Use`, `Principal` and their like"),
        (contracts.host(), "`AppManager`, what it can be asked and told"),
        (errors.page(), "what managers and plugins raise, and what it becomes over HTTP"),
        (http_api.page(), "every route, with the permission that it needs, and every problem"),
        (action_files.page(), "every key of an action file"),
        (metrics.page(), "what Prometheus reads"),
        (log_events.page(), "what is written to the log, with which keys"),
        (programs.client(), "the clients for programs"),
        (programs.testing(), "the fixtures of the pytest plugin, what they give, and the conformance suites"),
    ]
    roles = [(contracts.role(name, found), _first_sentence(ROLES[name].__doc__)) for name in ROLES]
    index = Page.of("reference.md", "Reference", _index(kinds, roles))
    return [*(page for page, _ in (*kinds, *roles)), index]


def _first_sentence(docstring: str | None) -> str:
    return (docstring or "").partition("\n")[0].rstrip(".")


def _index(kinds: list[tuple[Page, str]], roles: list[tuple[Page, str]]) -> Iterator[str]:
    """Yield a heading for each page, under which links to the reference as one page go on to lead somewhere."""
    yield from ("What there is, by kind. The other pages say how to do things; these say what each thing is.", "")
    for page, meaning in kinds:
        yield from (f"## {page.title}", "", f"[{page.title}]({page.path}): {meaning}.", "")
    yield from ("## Roles", "", "The contract of each role, its built-in providers, and their settings.", "")
    for page, meaning in roles:
        yield from (f"### {page.title}", "", f"[{page.title}]({page.path}): {meaning}.", "")


def files() -> dict[str, str]:
    """Return all that is made: the pages, and the picture of what depends on what where nothing is chosen."""
    return {**{page.path: page.text for page in pages()}, "images/graph.svg": svg(asked(_graph))}


async def _graph(app: AppManager, _: object) -> Graph:
    return describe_graph(app.plan)


def outdated() -> list[str]:
    """Return the paths of files that are not what the code says, and of pages that nothing makes any more."""
    made = files()
    there = {path.relative_to(DOCS).as_posix() for path in (DOCS / "reference").rglob("*.md")}
    wrong = [
        path for path, text in made.items() if not (DOCS / path).exists() or (DOCS / path).read_text("utf-8") != text
    ]
    return sorted({*wrong, *(there - made.keys())})


def main() -> None:
    """Write all files, and remove pages that nothing makes any more."""
    made = files()
    for old in (DOCS / "reference").rglob("*.md"):
        if old.relative_to(DOCS).as_posix() not in made:
            old.unlink()
    for path, text in made.items():
        target = DOCS / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
    sys.stdout.write(f"Wrote {len(made)} files of the reference to {DOCS}.\n")


if __name__ == "__main__":
    main()
