"""The settings of each chosen provider, validated by its own model."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel

from base04.errors import SettingsError, SettingsFault
from base04.resolution import Node, Plan, keys_of_the_host, settings_path
from base04.settings import validate
from base04.settings_keys import no_such_key
from base04.settings_source import SettingsDocument, dotted


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
    path = settings_path(node.key)
    also_known = keys_of_the_host(node.key) | node.choice.offered
    model = node.constructor.settings_model
    if model is not None:
        return validate(model, document, prefix=path, context={"data_dir": data_dir}, also_known=also_known)
    if document.values:
        raise SettingsError(
            [
                SettingsFault(
                    dotted((*path, *document.moved.get(key, ()), key)),
                    document.place((key,)),
                    f"{no_such_key(key, also_known)} The provider {node.choice.candidate} reads no settings.",
                )
                for key in document.values
            ]
        )
    return None
