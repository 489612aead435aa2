"""What every suite says of capabilities: those of the contract alone, and each as it was declared."""

from __future__ import annotations

from typing import ClassVar


class DeclaredCapabilities:
    """The part that all suites share.

    A suite fails where a capability is declared and missing, and where one is there and was not declared. A provider
    without one raises ``NotSupported`` where it is asked for it, unless the contract says otherwise.
    """

    capabilities: ClassVar[frozenset[str]] = frozenset()
    """What the provider under test declares."""

    known_capabilities: ClassVar[frozenset[str]] = frozenset()
    """What the contract names."""

    def test_capabilities_are_those_of_the_contract(self) -> None:
        unknown = self.capabilities - self.known_capabilities
        assert not unknown, (
            f"{type(self).__name__} declares {', '.join(sorted(unknown))}, which its contract does not name; "
            f"it names {', '.join(sorted(self.known_capabilities)) or 'none'}."
        )
