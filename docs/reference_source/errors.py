"""Errors: the tree, what each means, and what it becomes over HTTP."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from base04.http.problems import problems_of
from base04_hookspecs import errors
from reference_source.page import Page, prose, signature, table


def page() -> Page:
    """Return the page."""
    return Page.of("reference/errors.md", "Errors", _lines())


def _lines() -> Iterator[str]:
    yield "All are in `base04_hookspecs.errors`. Raise them in a plugin, and catch them in a program: they mean the"
    yield from ("same wherever they come from, and no message holds a secret.", "", "## The tree", "")
    tree = inspect.getdoc(errors) or ""
    yield from ("```text", inspect.cleandoc(tree.split("::", 1)[1].split("Messages never")[0]).strip(), "```", "")
    yield from ("## Over HTTP", "")
    yield from ("What is not named here is answered with 500 and says nothing; the log has it.", "")
    answered = [(kind, problems_of(kind)) for kind in classes()]
    yield from table(
        ("error", "status", "type of the problem"),
        [
            (f"`{kind.__name__}`", ", ".join(sorted({str(status) for status, _ in found})), _types(found))
            for kind, found in answered
            if found
        ],
    )
    yield from ("## Each of them", "")
    for kind in classes():
        yield from _described(kind)


def _types(found: list[tuple[int, str]]) -> str:
    return ", ".join(f"`{name}`" for _, name in found)


def classes() -> list[type[Exception]]:
    """Return the errors in the order of the tree."""
    found = [item for item in vars(errors).values() if inspect.isclass(item) and issubclass(item, Exception)]
    return [item for item in found if item.__module__ == errors.__name__]


def _described(kind: type[Exception]) -> Iterator[str]:
    made = signature(kind.__init__).replace("(self, ", "(").replace("(self)", "()").removesuffix(" -> None")
    yield from (f"### `{kind.__name__}`", "")
    yield from ("```python", f"{kind.__name__}{made}" if "__init__" in vars(kind) else _plain(kind), "```", "")
    yield from (*prose(kind.__doc__), "")


def _plain(kind: type[Exception]) -> str:
    return f"class {kind.__name__}({', '.join(base.__name__ for base in kind.__bases__)})"
