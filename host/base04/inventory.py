"""What there is: managers, where they came from, what depends on what."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypedDict

from base04.blueprint import Blueprint
from base04.errors import HostError
from base04.generation import Generation
from base04.plugins.compatibility import may_be_outdated
from base04.plugins.hook_timings import HookTimings
from base04.plugins.parts import PluginParts
from base04.plugins.plugin_steps import Wait
from base04.resolution import Node, Plan, direct_dependencies
from base04.selection import InstanceKey
from base04_hookspecs.app import ApplicationHealth
from base04_hookspecs.module import ModuleInfo


class ManagerDescription(TypedDict):
    """One manager. ``origin`` is the distribution that it came with, ``start_time`` is in seconds."""

    manager: str
    provider: str
    plugin: str
    origin: str
    replaces: str | None
    status: str
    details: str
    depends_on: list[str]
    dependants: list[str]
    start_time: float | None


def describe_managers(
    plan: Plan, generation: Generation | None = None, health: ApplicationHealth | None = None
) -> list[ManagerDescription]:
    """Describe all managers in the order in which they start; without a generation none runs."""
    return [_describe(node, plan, generation, health) for node in plan.nodes.values()]


def _describe(
    node: Node, plan: Plan, generation: Generation | None, health: ApplicationHealth | None
) -> ManagerDescription:
    key, candidate, replaced = node.key, node.choice.candidate, node.choice.replaces
    running = generation.running.get(key) if generation else None
    report = health["managers"].get(str(key)) if health else None
    down = generation.down.get(key, "") if generation else ""
    return {
        "manager": str(key),
        "provider": candidate.provider.name,
        "plugin": candidate.plugin.name,
        "origin": candidate.plugin.origin,
        "replaces": replaced.qualified_name if replaced else None,
        "status": (report["status"] if report else "started") if running else "down" if down else "not running",
        "details": report["details"] if report and running else down,
        "depends_on": _names(direct_dependencies(node) & plan.nodes.keys()),
        "dependants": _names(plan.dependants(key)),
        "start_time": round(running.start_time, 4) if running else None,
    }


def _names(keys: Iterable[InstanceKey]) -> list[str]:
    return sorted(str(key) for key in keys)


def tree(plan: Plan) -> Iterator[tuple[int, Node, bool]]:
    """Walk from who is needed by nobody down to what needs nothing: depth, node, and whether it was shown before."""
    seen: set[InstanceKey] = set()

    def walk(key: InstanceKey, depth: int) -> Iterator[tuple[int, Node, bool]]:
        repeated = key in seen
        seen.add(key)
        yield depth, plan.nodes[key], repeated
        if not repeated:
            for needed in sorted(direct_dependencies(plan.nodes[key]) & plan.nodes.keys()):
                yield from walk(needed, depth + 1)

    for key in sorted(plan.nodes):
        if not plan.dependants(key):
            yield from walk(key, 0)


def describe_plugins(
    blueprint: Blueprint,
    generation: Generation | None,
    waits: Callable[[str], Sequence[Wait]],
    timings: HookTimings | None,
) -> list[ModuleInfo]:
    """Describe all plugins by name; ``waits`` tells what one is waiting for, ``timings`` how long its hooks take."""
    running: dict[str, list[str]] = {}
    for item in generation.running.values() if generation else ():
        candidate = item.node.choice.candidate
        running.setdefault(candidate.plugin.name, []).append(f"{item.key}:{candidate.provider.name}")
    warnings = _warnings(blueprint, chosen=generation is not None)
    found = []
    for name, plugin in blueprint.discovery.plugins.items():
        module = plugin.describe(running.get(name, []), warnings.get(name, ()), waits(name))
        if generation is not None:
            module["contributes"] = {**module["contributes"], **_parts(blueprint, generation).of(name)}
        if timings is not None:
            module["timings"] = timings.of(name)
        found.append(module)
    return found


def _parts(blueprint: Blueprint, generation: Generation) -> PluginParts:
    if generation.parts is None:
        generation.parts = PluginParts(blueprint.discovery, generation)
    return generation.parts


def _warnings(blueprint: Blueprint, *, chosen: bool) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    if not chosen and not may_be_outdated(blueprint.discovery.candidates):
        return found  # a list of plugins imports no provider without need
    try:
        outdated = blueprint.outdated
    except HostError:  # what keeps the host from starting is told where it is started
        return found
    for item in outdated:
        found.setdefault(item.candidate.plugin.name, []).append(str(item))
    return found
