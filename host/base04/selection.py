"""Candidates -> a provider for each role and instance."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from base04.discovery import Discovery
from base04.errors import SelectionError, SettingsError, SettingsFault
from base04.plugins.plugin import Candidate, Plugin
from base04.settings import HostSettings, InstanceSettings

DEFAULT_INSTANCE: Final = "default"
SWITCHED_OFF: Final = "none"


@dataclass(frozen=True, slots=True, order=True)
class InstanceKey:
    """A role and the name of one of its instances."""

    role: str
    instance: str = DEFAULT_INSTANCE

    def __str__(self) -> str:
        return self.role if self.instance == DEFAULT_INSTANCE else f"{self.role}/{self.instance}"


@dataclass(frozen=True, slots=True)
class Choice:
    """The provider of one instance.

    ``replaces`` is the built-in one that it takes the place of, ``offered`` the names of all providers of the role:
    each may have its part in the settings.
    """

    key: InstanceKey
    candidate: Candidate
    settings: InstanceSettings = field(compare=False)
    replaces: Candidate | None = None
    offered: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Selection:
    """All choices, and the roles that are not there with the reason."""

    choices: dict[InstanceKey, Choice]
    absent: dict[str, str]


def select(discovery: Discovery, settings: HostSettings) -> Selection:
    """Choose a provider for each role and each named instance.

    Raises:
        SelectionError: a provider that does not exist, or several third-party ones and no setting.
        SettingsError: settings for a role that nobody offers.
    """
    candidates = discovery.candidates
    _refuse_what_is_no_instance(candidates, discovery, settings)
    choices: dict[InstanceKey, Choice] = {}
    absent = {role: _switched_off(discovery) for role in settings.managers if role not in candidates}
    for key, wanted in _instances(candidates, settings):
        offered = candidates[key.role]
        if wanted.provider == SWITCHED_OFF:
            absent[str(key)] = f"it is switched off by managers.{_settings_key(key)}.provider: none"
        elif not offered:
            absent[str(key)] = "no plugin offers a provider of this role" + _failed_plugins(discovery.failed())
        else:
            candidate = _choose(key, wanted, offered, discovery)
            built_in = next((item for item in offered if item.built_in and item.provider.default), None)
            replaces = built_in if built_in is not None and not candidate.built_in else None
            choices[key] = Choice(key, candidate, wanted, replaces, frozenset(item.provider.name for item in offered))
    return Selection(choices, absent)


def _instances(
    candidates: Mapping[str, Sequence[Candidate]], settings: HostSettings
) -> Iterator[tuple[InstanceKey, InstanceSettings]]:
    for role in candidates:
        wanted = settings.role(role)
        yield InstanceKey(role), wanted
        for name, instance in sorted(wanted.instances.items()):
            yield InstanceKey(role, name), instance


def _choose(
    key: InstanceKey, wanted: InstanceSettings, offered: Sequence[Candidate], discovery: Discovery
) -> Candidate:
    if wanted.provider is not None:
        return _named(key, wanted.provider, offered, discovery)
    third_party = [candidate for candidate in offered if not candidate.built_in]
    if not third_party:
        return next((item for item in offered if item.provider.default), offered[0])
    if len(third_party) == 1:
        return third_party[0]
    defaults = [candidate for candidate in third_party if candidate.provider.default]
    if len({candidate.plugin.name for candidate in third_party}) == 1 and len(defaults) == 1:
        return defaults[0]
    listed = "".join(f"\n  - {candidate}" for candidate in third_party)
    raise SelectionError(
        f"Several plugins offer a provider of the role {key.role!r}:{listed}\n"
        f"Choose one in base04.yaml:\n{_line_to_write(key, third_party[0])}"
    )


def _named(key: InstanceKey, name: str, offered: Sequence[Candidate], discovery: Discovery) -> Candidate:
    found = [item for item in offered if name in (item.provider.name, item.qualified_name)]
    if len(found) == 1:
        return found[0]
    where = f"managers.{_settings_key(key)}.provider"
    if found:
        listed = "".join(f"\n  - {item}" for item in found)
        raise SelectionError(
            f"{where}: several plugins offer a provider {name!r}:{listed}\nWrite the plugin too:\n"
            f"{_line_to_write(key, found[0])}"
        )
    names = sorted(item.provider.name for item in offered)
    close = difflib.get_close_matches(name, names, 1, 0.5)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    listed = "".join(f"\n  - {item}" for item in offered)
    raise SelectionError(
        f"{where}: no provider {name!r} of the role {key.role!r} was found. {hint}There are:{listed}"
        + _failed_plugins(discovery.failed())
    )


def _line_to_write(key: InstanceKey, candidate: Candidate) -> str:
    parts = ["managers", key.role]
    if key.instance != DEFAULT_INSTANCE:
        parts += ["instances", key.instance]
    inner = f"{{provider: {candidate.qualified_name!r}}}"
    return "  " + "".join(f"{part}: {{" for part in parts[:-1]) + f"{parts[-1]}: {inner}" + "}" * (len(parts) - 1)


def _settings_key(key: InstanceKey) -> str:
    return key.role if key.instance == DEFAULT_INSTANCE else f"{key.role}.instances.{key.instance}"


def _failed_plugins(failed: Sequence[Plugin]) -> str:
    if not failed:
        return ""
    listed = "".join(f"\n  - {plugin.name} ({plugin.origin}): {plugin.reason}" for plugin in failed)
    return f"\nThese plugins failed and may be what is missing (`base04 plugins` shows their tracebacks):{listed}"


def _switched_off(discovery: Discovery) -> str:
    """Say why a role may be missing that has settings; nothing where all plugins take part."""
    names = [name for name, plugin in discovery.plugins.items() if plugin.status == "disabled"]
    return f"no plugin that takes part has this role; switched off: {', '.join(names)}" if names else ""


def _refuse_what_is_no_instance(
    candidates: Mapping[str, Sequence[Candidate]], discovery: Discovery, settings: HostSettings
) -> None:
    faults = []
    for role in settings.managers:
        if role in candidates:
            continue
        close = difflib.get_close_matches(role, candidates, 1, 0.5)
        if not close and _switched_off(discovery):
            continue  # one of them may have the role, and the settings wait for it
        hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(sorted(candidates))}."
        message = f"There is no such role; {hint}{_failed_plugins(discovery.failed())}"
        faults.append(SettingsFault(f"managers.{role}", settings.document.place(("managers", role)), message))
    for role, wanted in settings.managers.items():
        if DEFAULT_INSTANCE in wanted.instances:
            path = ("managers", role, "instances", DEFAULT_INSTANCE)
            message = f"The default instance is managers.{role} itself: write its settings there."
            faults.append(SettingsFault(".".join(path), settings.document.place(path), message))
    if faults:
        raise SettingsError(faults)
