"""Writes ``base04_hookspecs/blocking.py``: the contracts as code that is not async sees them.

``python -m base04_hookspecs._generate_blocking`` rewrites that file;
``python -m base04_hookspecs._generate_blocking package.module:Contract ...`` prints such a module for other contracts.

The text comes from the sources of the contracts, so that annotations and defaults stay as they were written.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import base04_hookspecs
from base04_hookspecs._generate_blocking.module import HOST_ONLY, BlockingModule
from base04_hookspecs.app import AppManager
from base04_hookspecs.errors import ConfigurationError
from base04_hookspecs.manager import Manager
from base04_hookspecs.roles import ROLES

__all__ = ["COMMAND", "HOST_ONLY", "generate", "generate_for", "target_file"]

COMMAND: Final = "python -m base04_hookspecs._generate_blocking"


def target_file() -> Path:
    """Return where the generated module lives."""
    return Path(base04_hookspecs.__file__).with_name("blocking.py")


def generate() -> str:
    """Return the source of ``base04_hookspecs/blocking.py``."""
    return BlockingModule([Manager, *ROLES.values(), AppManager], "base04_hookspecs").render(
        "The contracts for code that is not async.\n\n"
        "Each class has the methods of its namesake without ``async``, but for those that only the host calls. Code\n"
        "that is not async annotates with these classes, and the host hands it blocking proxies of the managers.\n\n"
        f"Generated: do not edit, run ``{COMMAND}``.\n"
    )


def generate_for(targets: Sequence[str]) -> str:
    """Return the source of a module with the blocking form of other contracts, each ``package.module:Contract``.

    Raises:
        ConfigurationError: a target is not a contract, or something in it has no blocking form.
    """
    contracts = [_load(target) for target in targets]
    known: list[type] = [Manager, *ROLES.values(), AppManager]
    needed: dict[type, None] = {}
    for contract in contracts:
        ancestors = (base for base in reversed(contract.__mro__) if issubclass(base, Manager) and base not in known)
        needed.update(dict.fromkeys(ancestors))
    if not needed:
        raise ConfigurationError("These contracts are in base04_hookspecs.blocking already: import them from there.")
    return BlockingModule(list(needed), contracts[0].__module__.partition(".")[0], known).render(
        "The contracts for code that is not async.\n\n"
        f"Generated: do not edit, run ``{COMMAND}`` with\n" + "".join(f"``{target}``\n" for target in targets)
    )


def _load(target: str) -> type[Manager]:
    module, _, name = target.partition(":")
    try:
        contract = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"The contract {target!r} cannot be imported ({error}): write 'package.module:Contract'."
        ) from error
    if not (isinstance(contract, type) and issubclass(contract, Manager)):
        raise ConfigurationError(f"{target!r} is not a contract: a contract is a class that derives from Manager.")
    return contract
