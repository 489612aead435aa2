"""The settings of each chosen provider, validated by its own model."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from base04.errors import SettingsError, SettingsFault
from base04.resolution import Node, Plan
from base04.selection import DEFAULT_INSTANCE
from base04.settings import validate
from base04.settings_source import KeyPath, SettingsDocument, dotted


def check_all(plan: Plan, data_dir: Path) -> None:
    """Validate the settings of all providers that use no secrets; the others wait for the vault.

    Raises:
        SettingsError: with every fault of all of them.
    """
    faults: list[SettingsFault] = []
    for node in plan.nodes.values():
        if node.secrets:
            continue
        try:
            provider_settings(node, node.document, data_dir)
        except SettingsError as error:
            faults += error.faults
    if faults:
        raise SettingsError(faults)


def provider_settings(node: Node, document: SettingsDocument, data_dir: Path) -> BaseModel | None:
    """Validate what one provider reads; None where it reads nothing.

    Raises:
        SettingsError: with every fault, keys that nobody reads among them.
    """
    prefix: KeyPath = ("managers", node.key.role)
    if node.key.instance != DEFAULT_INSTANCE:
        prefix = (*prefix, "instances", node.key.instance)
    model = node.constructor.settings_model
    if model is not None:
        return validate(model, document, prefix=prefix, context={"data_dir": data_dir})
    if document.values:
        message = f"There is no such key; the provider {node.choice.candidate} reads no settings."
        raise SettingsError(
            [SettingsFault(dotted((*prefix, key)), document.place((key,)), message) for key in document.values]
        )
    return None
