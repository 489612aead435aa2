"""What programs and tests import: the clients, and ``base04.testing``."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from typing import Any, Final

import base04.client
from reference_source.page import Page, function, prose, signature

TESTING: Final = "base04.testing"
_INSIDE: Final = frozenset({"servers", "certificates", "proxy"})
"""What Base04's own tests start servers with; it is nothing that others are promised."""


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
    package = importlib.import_module(TESTING)
    yield from (*prose(package.__doc__), "")
    for module in _modules(package):
        yield from (f"## `{module.__name__}`", "", *prose(module.__doc__), "")
        for name, item in vars(module).items():
            if name.startswith("_") or getattr(item, "__module__", "") != module.__name__:
                continue
            if inspect.isfunction(item):
                yield from function(item)
            elif inspect.isclass(item):
                yield from _class(item) if ".conformance" not in module.__name__ else _suite(item)


def _modules(package: Any) -> Iterator[Any]:
    names = [item.name for item in pkgutil.iter_modules(package.__path__)]
    for name in sorted(name for name in names if name not in _INSIDE and not name.startswith("_")):
        module = importlib.import_module(f"{package.__name__}.{name}")
        yield module
        if hasattr(module, "__path__"):
            yield from _modules(module)


def _suite(suite: Any) -> Iterator[str]:
    """Show a conformance suite: how it is used, and how many tests it has."""
    tests = [name for name in dir(suite) if name.startswith("test_")]
    yield from (f"### `{suite.__name__}`", "", *prose(re.sub(r"\A\s+", "", suite.__doc__ or "")), "")
    yield from (f"{len(tests)} tests.", "")
