"""Contracts: the host-wide hooks, what every plugin imports, the host, and a page for each role."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from base04.discovery import Discovery
from base04_hookspecs import app, command_line, context, health, host_hooks, manager, markers, provider, redis, settings
from base04_hookspecs.roles import ROLES
from reference_source.page import Page, aliases, fields, function, functions, methods, prose, table, values
from reference_source.settings import HEADS, keys


def hooks() -> Page:
    """Return the page of the host-wide hooks."""
    return Page.of("reference/hooks.md", "Host-wide hooks", _hooks())


def _hooks() -> Iterator[str]:
    yield from (*prose(host_hooks.__doc__), "")
    yield from ("They are in `base04_hookspecs.host_hooks`; implement one under its name with `@hookimpl`.", "")
    yield from ("## Hooks", "")
    for item in functions(host_hooks):
        yield from function(item)
    yield from values(host_hooks)


def imports() -> Page:
    """Return the page of what every plugin imports."""
    return Page.of("reference/imports.md", "What every plugin imports", _imports())


def _imports() -> Iterator[str]:
    yield from ("These are in `base04_hookspecs`.", "", "## Values", "")
    for item in (provider.Provider, markers.Use, markers.Since, context.Principal, context.RequestContext):
        yield from fields(item)
    yield from ("## Functions", "")
    for shown in (context.current_request, context.require_permission, context.grants, health.health_report):
        yield from function(shown)
    yield from ("## Managers", "")
    yield from fields(manager.Manager)
    yield from methods(manager.Manager)
    yield from ("## Settings of a provider", "", "These are in `base04_hookspecs.settings`.", "")
    yield from fields(settings.ManagerSettings)
    yield from function(settings.parse_duration)
    yield from aliases(settings)
    yield from ("## Keys of a store", "", "This is in `base04_hookspecs.redis`.", "")
    yield from function(redis.key_name)
    yield from ("## Commands", "")
    yield from fields(command_line.CommandSession)
    yield from methods(command_line.CommandSession)


def host() -> Page:
    """Return the page of the host's own contract."""
    return Page.of("reference/host.md", "The host", _host())


def _host() -> Iterator[str]:
    yield "Its contract is `base04_hookspecs.app.AppManager`; `base04.AppManager` keeps it. What a program of your own"
    yield from ("does with it is in [embed it](../embed.md).", "", "## Methods", "")
    yield from methods(app.AppManager)


def role(name: str, found: Discovery) -> Page:
    """Return the page of a role."""
    return Page.of(f"reference/roles/{name}.md", f"The role `{name}`", _role(name, found))


def _role(name: str, found: Discovery) -> Iterator[str]:
    contract = ROLES[name]
    yield from (*prose(contract.__doc__), "")
    yield f"The contract is `{contract.__module__}.{contract.__name__}`, version {contract.contract_version}."
    yield from (f"A plugin offers providers with `def {name}_providers() -> Iterable[Provider]`.", "")
    yield from ("## Providers", "")
    for candidate in found.candidates[name]:
        yield from _provider(candidate.provider)
    yield from ("## Methods", "")
    yield from methods(contract)
    yield from values(importlib.import_module(contract.__module__))


def _provider(offered: provider.Provider) -> Iterator[str]:
    facts = ["the default"] if offered.default else []
    facts += [f"capabilities {', '.join(f'`{item}`' for item in sorted(offered.capabilities))}"] * bool(
        offered.capabilities
    )
    facts += [f"needs the extra `{offered.extra}`"] if offered.extra else []
    told = f" ({'; '.join(facts)})" if facts else ""
    yield from (f"### Provider `{offered.name}`", "", f"{offered.summary.rstrip('.')}{told}.", "")
    yield from _settings(_implementation(offered))


def _implementation(offered: provider.Provider) -> Any:
    module, _, name = offered.target.partition(":")
    return getattr(importlib.import_module(module), name)


def _settings(implementation: Any) -> Iterator[str]:
    hints = typing.get_type_hints(implementation.__init__)
    models = [hint for hint in hints.values() if inspect.isclass(hint) and issubclass(hint, BaseModel)]
    for model in models:
        yield from (*prose(model.__doc__), "")
        rows = list(keys(model, deep=True))
        if rows:
            yield from table(HEADS, rows)
