"""What keeps several processes from serving as one host: data that each would have for itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from base04.blueprint import Blueprint
from base04.errors import HostError
from base04.provider_settings import provider_settings
from base04.resolution import Node, settings_path
from base04.selection import InstanceKey

SHARED = "shared"
"""The capability of providers whose data is the same for all processes."""


def refuse_what_is_not_shared(blueprint: Blueprint, workers: int) -> None:
    """Let a plan pass that several processes can follow.

    Raises:
        HostError: with every manager that they cannot have, why, and what to write instead.
    """
    faults = list(_faults(blueprint))
    if faults:
        listed = "".join(f"\n  - {fault}" for fault in faults)
        raise HostError(
            f"{workers} workers cannot serve as one host: what follows would be another in each process.{listed}\n"
            "Or serve with one worker: --workers 1, or server.workers: 1 in base04.yaml."
        )


def _faults(blueprint: Blueprint) -> Iterator[str]:
    for key, node in blueprint.plan.nodes.items():
        reason = _reason(node, blueprint)
        if reason is not None:
            yield f"{key}: the provider {node.choice.candidate} {reason}. {_instead(key, blueprint)}"
        for dependency in node.constructor.dependencies:
            if dependency.contract.one_for_all and dependency.key not in blueprint.plan.nodes:
                why = blueprint.plan.absent.get(str(dependency.key), "it is not there")
                yield (
                    f"{dependency.key}: {why}, and without it {node} keeps for itself what all processes should have "
                    f"together. {_instead(dependency.key, blueprint)}"
                )


def _reason(node: Node, blueprint: Blueprint) -> str | None:
    """Say why several processes cannot have a manager."""
    held = node.constructor.cls.own_to_process(_settings_of(node, blueprint))
    if held is not None:
        return f"would have in each process, for itself, {held}"
    if node.constructor.cls.one_for_all and SHARED not in node.choice.candidate.provider.capabilities:
        return f"does not declare the capability {SHARED!r}, that several processes have the same data with it"
    return None


def _settings_of(node: Node, blueprint: Blueprint) -> Any:
    """Return what a provider reads, None where that is known only with the vault."""
    return None if node.secrets else provider_settings(node, node.document, blueprint.data_dir)


def _instead(key: InstanceKey, blueprint: Blueprint) -> str:
    """Say which providers of the role several processes can have."""
    offered = [
        candidate
        for candidate in blueprint.discovery.candidates.get(key.role, ())
        if SHARED in candidate.provider.capabilities or (candidate.built_in and not _one_for_all(key, blueprint))
    ]
    path = ".".join((*settings_path(key), "provider"))
    if not offered:
        return "No other provider of the role is installed: install one that several processes can have."
    names = " or ".join(f"`{path}: {candidate.provider.name}`" for candidate in offered)
    return f"Write {names}, with the settings that it needs."


def _one_for_all(key: InstanceKey, blueprint: Blueprint) -> bool:
    from base04_hookspecs.roles import ROLES

    contract = ROLES.get(key.role)
    return contract is not None and contract.one_for_all
