from __future__ import annotations

from typing import Annotated

import pytest

from base04.errors import ResolutionError
from base04.plugins.compatibility import contract_fits, contract_of, gained, outdated
from base04.plugins.plugin import Candidate, Plugin
from base04_hookspecs import Provider, Since
from base04_hookspecs.errors import ConfigurationError, NotSupported
from base04_hookspecs.manager import Manager
from base04_hookspecs.roles import ROLES
from host_kit import Plain


class LampManager(Plain):
    """A contract that has grown twice."""

    role = "lamp"
    contract_version = "1.2"

    colours: Annotated[tuple[str, ...], Since("1.1")] = ()

    async def switch(self) -> bool:
        return True

    @Since("1.2")
    async def dim(self, percent: int) -> bool:
        raise NotSupported("It cannot be dimmed.")


class Candle(LampManager):
    pass


class Spot(LampManager):
    colours = ("red",)

    async def dim(self, percent: int) -> bool:
        return True


def offered(cls: type[Manager], contract: str | None) -> Candidate:
    return Candidate("lamp", Provider("own", cls, contract=contract), Plugin("acme", "program", "acme"))


@pytest.mark.parametrize(
    ("written_for", "missing"),
    [(None, ("colours", "dim")), ("1.0", ("colours", "dim")), ("1.1", ("dim",)), ("1.2", ())],
)
def test_what_came_since_and_is_not_there_is_missing(written_for: str | None, missing: tuple[str, ...]) -> None:
    found = outdated(offered(Candle, written_for), Candle)
    assert tuple(name for name, _ in (found.missing if found else ())) == missing


def test_provider_that_has_everything_is_not_outdated_whatever_it_says() -> None:
    assert outdated(offered(Spot, None), Spot) is None
    assert outdated(offered(Spot, "1.0"), Spot) is None


@pytest.mark.parametrize("version", ["1.3", "2.0"])
def test_role_of_ones_own_refuses_what_it_does_not_serve(version: str) -> None:
    with pytest.raises(
        ResolutionError, match=rf"version {version} of the contract 'lamp', and LampManager has .* 1\.2"
    ):
        outdated(offered(Spot, version), Spot)


def test_contract_is_the_base_that_names_the_role() -> None:
    assert contract_of(Candle) is LampManager
    assert list(gained(LampManager, "1.0")) == [("colours", "1.1"), ("dim", "1.2")]


@pytest.mark.parametrize("role", ROLES)
def test_contract_has_a_version_that_covers_what_it_gained(role: str) -> None:
    contract = ROLES[role]
    newest = max((version for _, version in gained(contract, "1.0")), default="1.0")
    assert newest == contract.contract_version
    for name, _ in gained(contract, "1.0"):
        assert name not in contract.__abstractmethods__, "an older provider could not be made"


@pytest.mark.parametrize(
    ("written_for", "serves", "fits"),
    [("1.0", "1.0", True), ("1.0", "1.3", True), ("1.4", "1.3", False), ("2.0", "1.3", False), ("x", "1.0", False)],
)
def test_contract_versions_fit_within_a_major(written_for: str, serves: str, fits: bool) -> None:
    assert contract_fits(written_for, serves) is fits


@pytest.mark.parametrize("version", ["1", "one", "1.0.0", "", "1.0\n", 1.0])
def test_version_that_is_none_is_refused(version: str) -> None:
    with pytest.raises(ConfigurationError, match=r"write it as '1\.0'"):
        Provider("own", "a.b:C", contract=version)
