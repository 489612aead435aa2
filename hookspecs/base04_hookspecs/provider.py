"""How a plugin offers an implementation of a role without importing it."""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from typing import Final

from base04_hookspecs.errors import ConfigurationError
from base04_hookspecs.manager import Manager

FIRST_CONTRACT: Final = "1.0"
"""The version that a provider counts as written for that does not say."""

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*\Z")
_VERSION: Final = re.compile(r"[0-9]+\.[0-9]+\Z")
_TARGET: Final = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*\Z")


@dataclass(frozen=True, slots=True)
class Provider:
    """One implementation of a role.

    Args:
        name: what settings call it, in lower case: ``memory``, ``server``.
        implementation: the manager class, or ``"package.module:Class"``, imported only when the provider is chosen.
        default: whether it is the one to use when nobody says otherwise. For built-in plugins.
        extra: the extra of its distribution that brings the libraries it needs.
        contract: the version of the contract that it was written for. Without one it counts as written for 1.0, and
            what the contract has gained since is looked for in its class.
        capabilities: the optional parts of the contract that it has.
        role: the role, for ``extra_providers``; the other hooks name the role themselves.
        summary: one line for listings.
    """

    name: str
    implementation: type[Manager] | str
    _: KW_ONLY
    default: bool = False
    extra: str | None = None
    contract: str | None = None
    capabilities: frozenset[str] = frozenset()
    role: str | None = None
    summary: str = ""

    def __post_init__(self) -> None:
        if not _NAME.match(self.name):
            raise ConfigurationError(
                f"The provider name {self.name!r} is not usable: write lower-case letters, digits, '-' and '_', "
                "beginning with a letter."
            )
        if isinstance(self.implementation, str):
            if not _TARGET.match(self.implementation):
                raise ConfigurationError(
                    f"The implementation {self.implementation!r} of provider {self.name!r} is not usable: "
                    "write 'package.module:Class'."
                )
        elif not (isinstance(self.implementation, type) and issubclass(self.implementation, Manager)):
            raise ConfigurationError(
                f"The implementation {self.implementation!r} of provider {self.name!r} is neither a Manager class "
                "nor a string 'package.module:Class'."
            )
        if self.contract is not None and not (isinstance(self.contract, str) and _VERSION.match(self.contract)):
            raise ConfigurationError(
                f"The contract version {self.contract!r} of provider {self.name!r} is not usable: write it as '1.0'."
            )
        if self.name == "none":
            raise ConfigurationError("A provider cannot be named 'none': in settings that switches a role off.")

    @property
    def target(self) -> str:
        """The implementation as ``package.module:Class``."""
        if isinstance(self.implementation, str):
            return self.implementation
        return f"{self.implementation.__module__}:{self.implementation.__qualname__}"

    @property
    def written_for(self) -> str:
        """The version of the contract that it counts as written for."""
        return self.contract or FIRST_CONTRACT
