"""Everything that can be checked without starting a manager."""

from __future__ import annotations

import re
import socket
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from base04.blueprint import Blueprint
from base04.errors import HostError, SettingsError
from base04.plugins import plugin_findings
from base04.provider_settings import provider_settings
from base04.resolution import Node, Plan, keys_of_the_host, settings_path
from base04.selection import SWITCHED_OFF
from base04.settings import HostSettings
from base04.settings_source import dotted
from base04.telemetry import check as telemetry

Level = Literal["ok", "warning", "error"]

_PORTS: Final = {
    "redis": 6379,
    "rediss": 6379,
    "redis+cluster": 6379,
    "rediss+cluster": 6379,
    "redis+sentinel": 26379,
    "rediss+sentinel": 26379,
    "postgresql": 5432,
    "postgres": 5432,
    "mongodb": 27017,
    "http": 80,
    "https": 443,
}
_CONNECT_TIMEOUT_S: Final = 3.0
_SHORTEST_SECRET: Final = 12
"""Characters; a shorter password can be guessed."""
_SECRET_NAME: Final = re.compile(r"(password|passwd|secret|token|secret_id|private_key|api_key)$", re.IGNORECASE)
_REFERENCE: Final = re.compile(r"\$\{(secret|env|file):")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was checked. ``subject`` is what it is about, ``message`` says what to do where it is not well."""

    level: Level
    subject: str
    message: str


def examine(draw: Callable[[], Blueprint], settings_file: Path | None) -> list[Finding]:
    """Check settings, plugins, versions, servers, files and secrets; a fault that hides others is the last one.

    Args:
        draw: reads the settings and returns what the host is to be.
        settings_file: the file that the settings come from, None where there is none.

    Returns:
        What was found, errors first.
    """
    found: list[Finding] = []
    try:
        blueprint = draw()
        found += _files(blueprint.settings, settings_file)
        found += [Finding(*told) for told in telemetry.check(blueprint.settings, _CONNECT_TIMEOUT_S)]
        found += [Finding(*told) for told in plugin_findings.check(blueprint)]
        found += _written_secrets(blueprint.settings, settings_file)
        plan = blueprint.plan
        found += _workers(blueprint)
        found += [Finding("warning", f"plugin {item.candidate.plugin.name}", str(item)) for item in blueprint.outdated]
        found += _unused(blueprint, plan)
        found += _weak_secrets(blueprint.settings, plan)
        found += _servers(plan, blueprint.settings.data_dir)
        found.append(Finding("ok", "managers", f"{len(plan.nodes)} managers can be resolved, in an order to start in."))
    except SettingsError as error:
        found += [
            Finding("error", fault.key or "settings", _sentence(fault.place, fault.message)) for fault in error.faults
        ]
    except HostError as error:
        found.append(Finding("error", "managers", str(error)))
    order: dict[Level, int] = {"error": 0, "warning": 1, "ok": 2}
    return sorted(found, key=lambda finding: order[finding.level])


def _sentence(place: str, message: str) -> str:
    return f"{place}: {message}" if place else message


def requirements(blueprint: Blueprint) -> list[str]:
    """Return what brings the plugins and packs that take part, as lines of a requirements file, pinned."""
    names = {
        (plugin.distribution, plugin.version)
        for plugin in blueprint.discovery.plugins.values()
        if plugin.distribution and plugin.status == "enabled"
    }
    names |= {(source["distribution"], source["version"]) for source in blueprint.discovery.action_sources}
    return sorted(f"{name}=={version}" for name, version in names if name)


def _workers(blueprint: Blueprint) -> Iterator[Finding]:
    """Tell of what several processes could not share, where settings want several."""
    workers = blueprint.settings.server.workers
    if workers > 1:
        from base04.workers.sharing import refuse_what_is_not_shared

        try:
            refuse_what_is_not_shared(blueprint, workers)
        except HostError as error:
            yield Finding("error", "server.workers", str(error))


def _unused(blueprint: Blueprint, plan: Plan) -> Iterator[Finding]:
    """Tell of settings for providers that were not chosen, and of roles that are switched off and have settings."""
    document = blueprint.settings.document
    for role, settings in blueprint.settings.managers.items():
        written = document.below("managers", role).values
        if role in blueprint.selection.absent and role not in blueprint.discovery.candidates:
            yield Finding("warning", f"managers.{role}", f"It has no effect: {blueprint.selection.absent[role]}.")
        if settings.provider == SWITCHED_OFF and (extra := sorted(written.keys() - {"provider"})):
            yield Finding("warning", f"managers.{role}", f"It is switched off, so {', '.join(extra)} has no effect.")
    for key, node in plan.nodes.items():
        path = settings_path(key)
        written = document.below(*path).values
        chosen = node.choice.candidate.provider.name
        for name in sorted((node.choice.offered - {chosen}) & written.keys() - keys_of_the_host(key)):
            yield Finding(
                "warning",
                dotted((*path, name)),
                f"The provider {chosen!r} is chosen, so these settings have no effect.",
            )


def _files(settings: HostSettings, settings_file: Path | None) -> Iterator[Finding]:
    folder = settings.data_dir
    if folder.is_dir():
        for file in (folder, *folder.iterdir()):
            mode = stat.S_IMODE(file.lstat().st_mode)
            if file == folder and mode & 0o077:
                yield _open_to_others(file, mode, 0o700)
            elif file.suffix in (".json", ".yaml", ".sock", ".lock") and mode & 0o077:
                yield _open_to_others(file, mode, 0o600)
    if settings_file is not None and settings_file.is_file():
        mode = stat.S_IMODE(settings_file.stat().st_mode)
        if mode & 0o022:
            yield Finding(
                "error",
                str(settings_file),
                f"Others can write it (mode {mode:04o}), and so decide what runs: chmod go-w.",
            )


def _open_to_others(file: Path, mode: int, wanted: int) -> Finding:
    return Finding("error", str(file), f"Others can open it (mode {mode:04o}): chmod {wanted:o} {file}.")


def _written_secrets(settings: HostSettings, settings_file: Path | None) -> Iterator[Finding]:
    document = settings.document
    written: list[str] = []
    for path, value in _leaves(document.values):
        if not isinstance(value, str) or not value or value in document.hidden or _REFERENCE.search(value):
            continue  # it comes from a variable, a file or the vault
        if _SECRET_NAME.search(str(path[-1])) or _password_of(value):
            written.append(dotted(tuple(map(str, path))))
    for key in written:
        yield Finding(
            "warning", key, "A secret stands in the settings themselves: write ${secret:path#key} in its place."
        )
    if written and settings_file is not None and settings_file.is_file() and settings_file.stat().st_mode & 0o044:
        yield Finding("error", str(settings_file), "It holds secrets, and others can read it: chmod 600.")


def _weak_secrets(settings: HostSettings, plan: Plan) -> Iterator[Finding]:
    for node in plan.nodes.values():
        for name, text in _secret_texts(_settings_of(node, settings.data_dir)):
            weak = _password_of(text) if "://" in text else text
            if weak and len(weak) < _SHORTEST_SECRET:
                message = f"The secret has {len(weak)} characters, and can be guessed: use {_SHORTEST_SECRET} or more."
                yield Finding("warning", f"{dotted(settings_path(node.key))}: {name}", message)


def _leaves(values: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*above, str(key)))
        else:
            yield (*above, str(key)), value


def _password_of(text: str) -> str | None:
    try:
        return urlsplit(text).password if "://" in text else None
    except ValueError:
        return None


def _settings_of(node: Node, data_dir: Path) -> BaseModel | None:
    """Return what a provider reads, None where that is known only with the vault."""
    return None if node.secrets else provider_settings(node, node.document, data_dir)


def _secret_texts(settings: BaseModel | None) -> Iterator[tuple[str, str]]:
    for name, value in _values(settings):
        if isinstance(value, SecretStr):
            yield name, value.get_secret_value()


def _values(settings: BaseModel | None, above: str = "") -> Iterator[tuple[str, Any]]:
    for name in type(settings).model_fields if settings is not None else ():
        value = getattr(settings, name)
        if isinstance(value, BaseModel):
            yield from _values(value, f"{above}{name}.")
        else:
            yield f"{above}{name}", value


def _servers(plan: Plan, data_dir: Path) -> list[Finding]:
    """Connect to every server that settings name, at the same time; nothing is sent."""
    wanted: list[tuple[str, str, int]] = []
    found: list[Finding] = []
    for node in plan.nodes.values():
        if node.secrets:
            message = "Its settings use secrets of the vault, so its servers are looked for only when it starts."
            found.append(Finding("ok", str(node.key), message))
            continue
        for _, value in _values(_settings_of(node, data_dir)):
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            wanted += [(str(node.key), host, port) for host, port in _addresses(text)]
    with ThreadPoolExecutor(max_workers=16) as pool:
        found += pool.map(_reachable, dict.fromkeys(wanted))
    return found


def _addresses(value: Any) -> Iterable[tuple[str, int]]:
    if not isinstance(value, str) or "://" not in value:
        return []
    scheme, _, rest = value.partition("://")
    port = _PORTS.get(scheme)
    if port is None:
        return []
    hosts = rest.partition("/")[0].partition("?")[0].rpartition("@")[2]
    return [
        (parts.hostname, parts.port or port) for text in hosts.split(",") if (parts := urlsplit(f"//{text}")).hostname
    ]


def _reachable(server: tuple[str, str, int]) -> Finding:
    manager, host, port = server
    try:
        with closing(socket.create_connection((host, port), timeout=_CONNECT_TIMEOUT_S)):
            return Finding("ok", manager, f"{host}:{port} can be reached.")
    except OSError as error:
        return Finding("error", manager, f"{host}:{port} cannot be reached: {error.strerror or error}.")
