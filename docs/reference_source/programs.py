"""What programs and tests import: the clients, and ``base04.testing``."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from typing import Any

import base04.client
from base04.testing import conformance
from base04.testing.actions import ActionRunner
from base04.testing.fakes.clock import Clock
from base04.testing.fakes.controls import Call, Fake
from base04.testing.fakes.maker import MakeFake
from base04.testing.fixtures.offer import NAMES, Offer
from base04.testing.hosts import MakeApp
from base04.testing.http_client import HostClient
from base04.testing.served import Served
from reference_source.page import Page, function, prose, signature, table


def client() -> Page:
    """Return the page of the clients."""
    return Page.of("reference/client.md", "Clients for Python", _client())


def _client() -> Iterator[str]:
    yield from (*prose(base04.client.__doc__), "")
    yield from ("All are in `base04.client`; [clients](../clients.md) shows them at work.", "", "## Classes", "")
    for name in base04.client.__all__:
        yield from _class(getattr(base04.client, name))


def _class(shown: Any) -> Iterator[str]:
    """Show a class, then its methods without headings, which many classes would share."""
    yield from (f"### `{shown.__name__}`", "", "```python")
    yield from (f"class {shown.__name__}{_made(shown)}", "```", "", *prose(shown.__doc__), "")
    for name in dict.fromkeys(name for cls in reversed(_own(shown)) for name in vars(cls)):
        item = inspect.getattr_static(shown, name)
        if name.startswith("_"):
            continue
        if isinstance(item, property) and item.fget is not None:
            yield from list(function(item.fget, "@property\n"))[2:]
        elif inspect.isfunction(item):
            yield from list(function(item))[2:]


def _own(shown: Any) -> list[Any]:
    return [cls for cls in shown.__mro__ if cls.__module__.startswith("base04")]


def _made(shown: Any) -> str:
    if "__init__" not in vars(shown):
        return f"({', '.join(base.__name__ for base in shown.__bases__)})"
    return signature(shown.__init__).replace("(self, ", "(").replace("(self)", "()").removesuffix(" -> None")


def testing() -> Page:
    """Return the page of ``base04.testing``."""
    return Page.of("reference/testing.md", "What tests import", _testing())


def _testing() -> Iterator[str]:
    yield "[Test a plugin](../test-a-plugin.md) shows how to use all of this. pytest loads the plugin `base04` by"
    yield from ("itself, where Base04 is installed.", "", "## Fixtures", "")
    made = vars(Offer((), lambda item: item).fixtures)
    yield from table(
        ("fixture", "what it is"),
        [(f"`{name}`", _first_paragraph(made[name])) for name in sorted(made) if name in NAMES],
    )
    yield from ("## What fixtures give", "")
    for shown in (MakeApp, HostClient, Served, ActionRunner, MakeFake, Fake, Call, Clock):
        yield from _class(shown)
    yield from ("## Conformance suites", "")
    yield "Subclass one, and give it the fixtures that its docstring names."
    yield from ("", *table(("suite", "in", "tests", "what for"), sorted(_suites())))


def _first_paragraph(shown: Any) -> str:
    return inspect.cleandoc(shown.__doc__ or "").partition("\n\n")[0].replace("\n", " ")


def _suites() -> Iterator[tuple[str, str, str, str]]:
    for item in pkgutil.iter_modules(conformance.__path__):
        module = importlib.import_module(f"{conformance.__name__}.{item.name}")
        for name, suite in vars(module).items():
            if name.endswith("Conformance") and suite.__module__ == module.__name__:
                tests = sum(member.startswith("test_") for member in dir(suite))
                yield f"`{name}`", f"`{module.__name__}`", str(tests), _first_paragraph(suite)
