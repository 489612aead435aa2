"""Providers -> an order to start them in."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter

from base04.constructor import Constructor, Dependency, inspect_constructor, load_class
from base04.errors import ResolutionError, SettingsError, SettingsFault
from base04.selection import DEFAULT_INSTANCE, Choice, InstanceKey, Selection
from base04.settings import HostSettings, InstanceSettings, RoleSettings
from base04.settings_source import SettingsDocument, dotted, secret_references

VAULT = InstanceKey("vault")
HOST_KEYS = frozenset(RoleSettings.model_fields)


@dataclass(frozen=True, slots=True)
class Node:
    """One manager to be: its choice, its constructor, its settings as written, and the secrets that they use."""

    choice: Choice
    constructor: Constructor
    document: SettingsDocument
    secrets: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> InstanceKey:
        """Which instance it is."""
        return self.choice.key

    def __str__(self) -> str:
        return f"{self.key} ({self.choice.candidate})"


@dataclass(frozen=True, slots=True)
class Plan:
    """All managers to be, in an order in which they can start; ``edges`` are what each waits for."""

    nodes: dict[InstanceKey, Node]
    edges: dict[InstanceKey, frozenset[InstanceKey]]
    absent: dict[str, str] = field(default_factory=dict)

    def dependants(self, key: InstanceKey) -> list[InstanceKey]:
        """Return who needs a manager directly, in the order in which they start."""
        return [other for other, node in self.nodes.items() if key in direct_dependencies(node)]

    def restricted_to(self, roles: Iterable[str]) -> Plan:
        """Return a plan with the default instances of these roles, and what they need."""
        needed = {InstanceKey(role) for role in roles} & self.nodes.keys()
        for key in reversed(self.nodes):
            if key in needed:
                needed |= direct_dependencies(self.nodes[key]) & self.nodes.keys()
        return self.part(needed)

    def part(self, keys: Container[InstanceKey]) -> Plan:
        """Return a plan with these managers alone."""
        nodes = {key: node for key, node in self.nodes.items() if key in keys}
        return Plan(nodes, {key: self.edges[key] & nodes.keys() for key in nodes}, self.absent)


def direct_dependencies(node: Node) -> frozenset[InstanceKey]:
    """Return what a manager is given: its parameters, and the vault where its settings name secrets."""
    keys = {dependency.key for dependency in node.constructor.dependencies}
    return frozenset(keys | {VAULT} if node.secrets else keys)


def resolve(selection: Selection, settings: HostSettings) -> Plan:
    """Import the chosen providers, read what they need, and order them.

    Raises:
        SettingsError: the part of a provider is not a mapping.
        ResolutionError: a provider cannot be imported, needs something that is not there, or needs itself; spelled
            out with role, instance, provider, plugin and parameter.
    """
    nodes = {key: _node(choice, settings) for key, choice in selection.choices.items()}
    for node in nodes.values():
        for dependency in node.constructor.dependencies:
            _check(node, dependency, nodes, selection)
        if node.secrets and VAULT not in nodes:
            raise ResolutionError(f"{node} uses ${{secret:...}} in its settings, and there is no vault.")
    edges = {key: direct_dependencies(node) & nodes.keys() for key, node in nodes.items()}
    _place_live_views_last(nodes, edges)
    order = _ordered(nodes, edges)
    return Plan({key: nodes[key] for key in order}, {key: frozenset(edges[key]) for key in order}, selection.absent)


def _node(choice: Choice, settings: HostSettings) -> Node:
    constructor = inspect_constructor(load_class(choice.candidate), choice.candidate)
    document = _provider_document(choice, settings)
    secrets = tuple(sorted(set(secret_references(document.values))))
    if secrets and choice.key == VAULT:
        raise ResolutionError(
            f"The settings of {choice.key} ({choice.candidate}) use ${{secret:...}}, which comes from the vault "
            "itself: use ${env:NAME} or ${file:path} there."
        )
    return Node(choice, constructor, document, secrets)


def _provider_document(choice: Choice, settings: HostSettings) -> SettingsDocument:
    """Put together what a provider reads: what every provider of the role reads, and its own part over it."""
    key, name = choice.key, choice.candidate.provider.name
    written = settings.document.below(*settings_path(key))
    if not isinstance(written.values.get(name, {}), Mapping | None):
        where = (*settings_path(key), name)
        message = f"This must be a mapping, the settings of the provider {name!r}."
        raise SettingsError([SettingsFault(dotted(where), settings.document.place(where), message)])
    own = written.below(name)
    parts = keys_of_the_host(key) | choice.offered
    others = {item: value for item, value in written.values.items() if item not in parts}
    places = {where: place for where, place in written.places.items() if not where or where[0] in others}
    return SettingsDocument(
        {**others, **own.values}, {**places, **own.places}, written.hidden, dict.fromkeys(own.values, (name,))
    )


def settings_path(key: InstanceKey) -> tuple[str, ...]:
    """Return where the settings of an instance stand."""
    role = ("managers", key.role)
    return role if key.instance == DEFAULT_INSTANCE else (*role, "instances", key.instance)


def keys_of_the_host(key: InstanceKey) -> frozenset[str]:
    """Return the keys of an instance that the host reads, not its provider."""
    return HOST_KEYS if key.instance == DEFAULT_INSTANCE else frozenset(InstanceSettings.model_fields)


def _check(node: Node, dependency: Dependency, nodes: Mapping[InstanceKey, Node], selection: Selection) -> None:
    found = nodes.get(dependency.key)
    cls = node.constructor.cls.__qualname__
    chain = f"{node} needs {dependency.key} for the parameter {dependency.parameter!r} of {cls}"
    if found is None:
        if dependency.optional:
            return
        raise ResolutionError(f"{chain}, and {_why_missing(dependency.key, selection)}.")
    if not issubclass(found.constructor.cls, dependency.contract):
        raise ResolutionError(
            f"{chain} to be a {dependency.contract.__qualname__}, and {found.choice.candidate} is a "
            f"{found.constructor.cls.__qualname__}: annotate the parameter with the contract from base04_hookspecs."
        )
    if dependency.use.access is not None and not hasattr(found.constructor.cls, "with_access"):
        raise ResolutionError(f"{chain} with an access role, and the role {dependency.key.role!r} has none.")


def _why_missing(key: InstanceKey, selection: Selection) -> str:
    return selection.absent.get(str(key)) or (
        f"there is no instance {key.instance!r} of the role {key.role!r}: define it below managers.{key.role}.instances"
    )


def _place_live_views_last(nodes: Mapping[InstanceKey, Node], edges: dict[InstanceKey, frozenset[InstanceKey]]) -> None:
    """Let who takes the AppManager wait for all who do not depend on such a one."""
    viewers = {key for key, node in nodes.items() if node.constructor.app_parameter}
    after = set(viewers)
    while added := {key for key, needs in edges.items() if key not in after and needs & after}:
        after |= added
    before = nodes.keys() - after
    for key in viewers:
        edges[key] = edges[key] | before


def _ordered(
    nodes: Mapping[InstanceKey, Node], edges: Mapping[InstanceKey, Iterable[InstanceKey]]
) -> list[InstanceKey]:
    try:
        return list(TopologicalSorter({key: sorted(needs) for key, needs in sorted(edges.items())}).static_order())
    except CycleError as error:
        cycle: list[InstanceKey] = error.args[1]  # each is needed by the next; first and last are the same
        raise ResolutionError(
            "The managers need each other in a circle, so none can start first:\n"
            + "\n".join(_links(nodes, cycle[::-1]))
        ) from None


def _links(nodes: Mapping[InstanceKey, Node], circle: list[InstanceKey]) -> Iterator[str]:
    for position, (key, needed) in enumerate(itertools.pairwise(circle), 1):
        node = nodes[key]
        names = [item.parameter for item in node.constructor.dependencies if item.key == needed]
        through = (
            f"parameter {names[0]!r} of {node.constructor.cls.__qualname__}" if names else "a secret in its settings"
        )
        closes = ", which closes the circle" if position == len(circle) - 1 else ""
        yield f"  {node} needs {needed} through {through}{closes}"
