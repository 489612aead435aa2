"""Plugins for people: what each is, and what is wrong with it."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from base04.errors import HostError

if TYPE_CHECKING:
    from base04.app_manager import AppManager
    from base04.cli.session import Session

_OF_THE_HOST = ("collect_time", "warnings", "faults", "not_ready", "timings")
"""What only a host that runs can tell of a plugin."""


def found_plugins(session: Session, manager: AppManager, name: str | None) -> list[Any]:
    """Return the plugins that are installed, as a host would find them now, with what the running host knows of them.

    Where none runs and one plugin is asked for, its hooks are asked for what they contribute.

    Raises:
        HostError: there is no plugin of that name.
    """
    found: list[Any] = list(manager.list_plugins())
    names = [item["name"] for item in found]
    if name is not None and name not in names:
        close = difflib.get_close_matches(name, names, 3, 0.5)
        hint = f"did you mean {' or '.join(map(repr, close))}?" if close else f"there are {', '.join(names)}."
        raise HostError(f"There is no plugin {name!r}; {hint}")
    if session.running_host() is not None:
        _add_what_the_host_knows(session, found)
    elif name is not None:
        from base04.plugins.contributions import collect

        not_ready = collect(manager.discovery, manager).not_ready
        found = list(manager.list_plugins())
        for item in found:
            waits = [(hook, reason) for (plugin, hook), reason in not_ready if plugin == item["name"]]
            item["not_ready"] = [
                {"hook": hook, "reason": reason, "attempts": 1, "next_try": 0.0} for hook, reason in waits
            ]
    return [item for item in found if name in (None, item["name"])]


def _add_what_the_host_knows(session: Session, found: list[Any]) -> None:
    try:
        running = {item["name"]: item for item in session.ask("GET", "/modules")["modules"]}
    except HostError as error:  # it is starting or stopping, or has no socket; what is installed can be told anyway
        sys.stderr.write(f"base04: {error}\n")
        return
    for item in found:
        known = running.get(item["name"], {})
        item.update({key: known[key] for key in _OF_THE_HOST if key in known})


def described(plugin: Any) -> Iterator[str]:
    """Yield everything that there is to say of one plugin."""
    origin = f"{plugin['distribution']} {plugin['version']}".strip() or plugin["target"]
    yield f"{plugin['name']}: {status(plugin)}, from {origin}"
    for kind, items in plugin["contributes"].items():
        if items:
            yield f"  {kind}: {', '.join(items)}"
    if "health" in plugin:
        yield f"  health: {plugin['health']['status']}, {plugin['health']['details']}"
    hooks = f", {plugin['collect_time'] * 1000:.1f} ms for its hooks" if plugin.get("collect_time") else ""
    yield f"  loaded in {plugin['load_time'] * 1000:.1f} ms{hooks}"
    for timing in plugin.get("timings", ()):
        mean = timing["total"] / timing["count"] * 1000
        longest, stage = timing["max"] * 1000, "collected" if timing["stage"] == "collect" else "called"
        yield f"  {timing['hook']} {stage} {timing['count']} times, {mean:.2f} ms each, {longest:.2f} ms at most"
    if plugin["reason"]:
        yield f"  reason: {plugin['reason']}"
    yield from troubles(plugin)
    if plugin["error"]:
        yield plugin["error"].rstrip()


def commands_of(manager: AppManager, plugin: str) -> list[str]:
    """Return the commands that a plugin adds to this program; a running host asks no plugin for them."""
    import typer

    from base04.plugins.contributions import collect_commands

    found = (group for owner, group in collect_commands(manager.discovery) if owner == plugin)
    groups = (group for group in found if issubclass(type(group), typer.Typer))  # what else there is may do anything
    return [name for group in groups if isinstance(name := group.info.name, str)]


def status(plugin: Any) -> str:
    """Return a word on how a plugin is, and how many of its parts have failed."""
    faults = len(plugin.get("faults", ()))
    more = f", {faults} part{'s' * (faults > 1)} failed" if faults else ""
    waits = ", not ready" if plugin.get("not_ready") else ""
    return f"{plugin['status']}{waits}{more}"


def write_troubles(plugins: Iterable[Any]) -> None:
    """Write below a table what is wrong with each plugin, in a line each."""
    for plugin in plugins:
        for line in troubles(plugin, tracebacks=False):
            sys.stdout.write(f"\n{plugin['name']}: {line.strip()}\n")


def troubles(plugin: Any, *, tracebacks: bool = True) -> Iterator[str]:
    """Yield what is wrong with a plugin, with or without tracebacks."""
    for warning in plugin.get("warnings", ()):
        yield f"  warning: {warning}"
    for wait in plugin.get("not_ready", ()):
        yield f"  {wait['hook']} is not ready, next try in {wait['next_try']:g} s: {wait['reason']}"
    for fault in plugin.get("faults", ()):
        again = f" {fault['times']} times, the last" if fault["times"] > 1 else ""
        at = datetime.fromtimestamp(fault["at"], UTC).strftime("%Y-%m-%d %H:%M:%S")
        yield f"  {fault['part']} failed{again} at {at} UTC: {fault['reason']}"
        if tracebacks and fault["error"]:
            yield fault["error"].rstrip()
