"""Providers written for another version of a contract than the one that is served."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from base04.errors import ResolutionError
from base04.plugins.plugin import Candidate
from base04_hookspecs.manager import Manager
from base04_hookspecs.markers import SINCE, Since
from base04_hookspecs.provider import FIRST_CONTRACT
from base04_hookspecs.roles import ROLES

Version = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outdated:
    """A provider that is served although its contract has gained something since it was written.

    ``missing`` has the names of what it lacks, each with the version in which it came.
    """

    candidate: Candidate
    serves: str
    missing: tuple[tuple[str, str], ...]

    @property
    def lacks(self) -> list[str]:
        """What it lacks, for people: ``is_still_valid (1.1)``."""
        return [f"{name} ({version})" for name, version in self.missing]

    def __str__(self) -> str:
        provider, role = self.candidate.provider, self.candidate.role
        written = (
            f"is written for version {provider.written_for} of the contract {role!r}"
            if provider.contract is not None
            else f"does not say for which version of the contract {role!r} it is written, so {provider.written_for} is "
            "assumed"
        )
        return (
            f"The provider {self.candidate} {written}, and this host has {self.serves}. It works, without what came "
            f"since: {', '.join(self.lacks)}. Look for a newer version of the plugin; who maintains it looks at these "
            f'and writes contract="{self.serves}" into its Provider.'
        )


def version_of(text: str) -> Version:
    """Return a version that can be compared; empty for what is none."""
    parts = text.split(".")
    return tuple(map(int, parts)) if all(part.isdecimal() for part in parts) else ()


def contract_fits(written_for: str, serves: str) -> bool:
    """Tell whether a provider written for one version works where another is served: same major, no newer minor."""
    wanted, have = version_of(written_for), version_of(serves)
    return bool(wanted and have) and wanted[0] == have[0] and wanted <= have


def contract_of(cls: type[Manager]) -> type[Manager]:
    """Return the contract that a class implements: the one of its bases that names the role first."""
    return next((base for base in reversed(cls.__mro__) if "role" in vars(base)), cls)


def gained(contract: type[Manager], since: str) -> Iterator[tuple[str, str]]:
    """Yield what a contract has gained after a version, with the versions in which it came, by name."""
    before = version_of(since)
    for name, version in sorted(_marked(contract)):
        if version_of(version) > before:
            yield name, version


def _marked(contract: type[Manager]) -> Iterator[tuple[str, str]]:
    for name, item in vars(contract).items():
        if (version := getattr(item, SINCE, None)) is not None:
            yield name, version
    for name, hint in typing.get_type_hints(contract, include_extras=True).items():
        for mark in typing.get_args(hint)[1:] if typing.get_origin(hint) is Annotated else ():
            if isinstance(mark, Since):
                yield name, mark.version


def outdated(candidate: Candidate, cls: type[Manager]) -> Outdated | None:
    """Return what a provider lacks of the contract that is served, None where it lacks nothing.

    Raises:
        ResolutionError: it was written for another major version, or for a newer one. For the roles of Base04 that was
            found out when the plugin was; this is for the others.
    """
    contract, written_for = contract_of(cls), candidate.provider.written_for
    serves = contract.contract_version
    if written_for == serves:
        return None
    if not contract_fits(written_for, serves):
        raise ResolutionError(
            f"{candidate} is written for version {written_for} of the contract {candidate.role!r}, and "
            f"{contract.__qualname__} has version {serves}."
        )
    missing = tuple(item for item in gained(contract, written_for) if not _has_own(cls, contract, item[0]))
    return Outdated(candidate, serves, missing) if missing else None


def _has_own(cls: type[Manager], contract: type[Manager], name: str) -> bool:
    return inspect.getattr_static(cls, name) is not vars(contract)[name]


def all_outdated(chosen: Iterable[tuple[Candidate, Any]]) -> list[Outdated]:
    """Return what chosen providers lack, each provider once."""
    found: dict[str, Outdated] = {}
    for candidate, cls in chosen:
        lacking = outdated(candidate, cls)
        if lacking is not None:
            found[f"{candidate.role} {candidate.qualified_name}"] = lacking
    return list(found.values())


def may_be_outdated(candidates: Mapping[str, Iterable[Candidate]]) -> bool:
    """Tell, without importing any, whether a provider may be written for another version than is served."""
    return any(
        candidate.provider.written_for != (ROLES[role].contract_version if role in ROLES else FIRST_CONTRACT)
        for role, offered in candidates.items()
        for candidate in offered
    )
