from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import pytest

from base04.discovery import discover
from base04.errors import ResolutionError
from base04.resolution import Plan, resolve
from base04.selection import InstanceKey, select
from base04.settings import load_settings
from base04_builtin.vault.file import FileVaultManager
from base04_hookspecs import Manager, Provider, Use, hookimpl
from base04_hookspecs.app import AppManager
from base04_hookspecs.vault import VaultManager
from host_kit import Plain, offering, only


class Alpha(Plain):
    role = "alpha"


class Beta(Plain):
    role = "beta"


class Gamma(Plain):
    role = "gamma"


class Zeta(Plain):
    role = "zeta"


class NeedsAlpha(Beta):
    def __init__(self, alpha: Alpha) -> None: ...


class NeedsBeta(Gamma):
    def __init__(self, beta: Beta) -> None: ...


class NeedsGamma(Alpha):
    def __init__(self, gamma: Gamma) -> None: ...


class MayHaveAlpha(Beta):
    def __init__(self, alpha: Alpha | None) -> None: ...


class NeedsReports(Beta):
    def __init__(self, alpha: Annotated[Alpha, Use("reports")]) -> None: ...


class NeedsReadOnly(Beta):
    def __init__(self, alpha: Annotated[Alpha, Use(access="read_only")]) -> None: ...


class NeedsVault(Alpha):
    def __init__(self, vault: VaultManager) -> None: ...


class Watches(Alpha):
    def __init__(self, app: AppManager) -> None: ...


class WatchesToo(Gamma):
    def __init__(self, app: AppManager, beta: Beta) -> None: ...


class Bright(Alpha):
    pass


class NeedsConcrete(Beta):
    def __init__(self, alpha: Bright) -> None: ...


def planned(tmp_path: Path, *classes: type[Manager], **managers: Any) -> Plan:
    settings = load_settings(only(tmp_path, **managers), environ={})
    discovery = discover(settings.plugins, extra_plugins=[("lights", offering(*classes))])
    assert not discovery.failed()
    return resolve(select(discovery, settings), settings)


def refusal(tmp_path: Path, *classes: type[Manager], **managers: Any) -> str:
    with pytest.raises(ResolutionError) as refused:
        planned(tmp_path, *classes, **managers)
    return str(refused.value)


def names(plan: Plan) -> list[str]:
    return [str(key) for key in plan.nodes]


def test_resolution_orders_by_need(tmp_path: Path) -> None:
    plan = planned(tmp_path, NeedsBeta, NeedsAlpha, Alpha)
    assert names(plan) == ["alpha", "beta", "gamma"]
    assert plan.dependants(InstanceKey("alpha")) == [InstanceKey("beta")]
    assert names(plan.restricted_to(["beta"])) == ["alpha", "beta"]


def test_resolution_of_a_cycle_spells_out_the_chain_and_what_closes_it(tmp_path: Path) -> None:
    told = refusal(tmp_path, NeedsBeta, NeedsAlpha, NeedsGamma).splitlines()
    assert "in a circle" in told[0]
    links = sorted(line.removesuffix(", which closes the circle").strip() for line in told[1:])
    assert links == [
        "alpha (own of plugin lights (types:SimpleNamespace)) needs gamma through parameter 'gamma' of NeedsGamma",
        "beta (own of plugin lights (types:SimpleNamespace)) needs alpha through parameter 'alpha' of NeedsAlpha",
        "gamma (own of plugin lights (types:SimpleNamespace)) needs beta through parameter 'beta' of NeedsBeta",
    ]
    assert [line.endswith("which closes the circle") for line in told[1:]] == [False, False, True]
    first, last = told[1].split()[0], told[-1].split(" needs ")[1].split()[0]
    assert first == last


class DarkVault(FileVaultManager):
    def __init__(self, alpha: Alpha) -> None: ...


def test_resolution_of_a_cycle_through_a_secret_says_so(tmp_path: Path) -> None:
    @hookimpl
    def vault_providers() -> list[Provider]:
        return [Provider("dark", DarkVault)]

    plugin = offering(Alpha)
    plugin.vault_providers = vault_providers
    settings = load_settings(only(tmp_path, alpha={"x": "${secret:a#b}"}, vault={}), environ={})
    discovery = discover(settings.plugins, extra_plugins=[("lights", plugin)])
    with pytest.raises(ResolutionError) as refused:
        resolve(select(discovery, settings), settings)
    assert "needs vault through a secret in its settings" in str(refused.value)
    assert "needs alpha through parameter 'alpha' of DarkVault" in str(refused.value)


def test_resolution_of_a_missing_role_gives_role_provider_plugin_parameter_and_reason(tmp_path: Path) -> None:
    told = refusal(tmp_path, NeedsVault)
    assert "alpha (own of plugin lights (types:SimpleNamespace)) needs vault" in told
    assert "parameter 'vault' of NeedsVault" in told
    assert "it is switched off by managers.vault.provider: none" in told


def test_resolution_of_a_missing_instance_says_where_to_define_it(tmp_path: Path) -> None:
    told = refusal(tmp_path, Alpha, NeedsReports)
    assert "needs alpha/reports for the parameter 'alpha' of NeedsReports" in told
    assert "define it below managers.alpha.instances" in told


def test_resolution_of_an_optional_role_does_without(tmp_path: Path) -> None:
    assert names(planned(tmp_path, MayHaveAlpha)) == ["beta"]
    assert names(planned(tmp_path, MayHaveAlpha, Alpha)) == ["alpha", "beta"]


def test_resolution_of_named_instances(tmp_path: Path) -> None:
    plan = planned(tmp_path, Alpha, NeedsReports, alpha={"instances": {"reports": {}, "unused": {}}})
    assert set(names(plan)) == {"alpha", "alpha/reports", "alpha/unused", "beta"}
    assert names(plan).index("alpha/reports") < names(plan).index("beta")


def test_resolution_of_an_access_role_needs_a_role_that_has_them(tmp_path: Path) -> None:
    assert "with an access role, and the role 'alpha' has none" in refusal(tmp_path, Alpha, NeedsReadOnly)


def test_resolution_of_a_concrete_class_asks_for_the_contract(tmp_path: Path) -> None:
    told = refusal(tmp_path, Alpha, NeedsConcrete)
    assert "to be a Bright" in told
    assert "annotate the parameter with the contract" in told
    assert names(planned(tmp_path, Bright, NeedsConcrete)) == ["alpha", "beta"]


def test_resolution_starts_takers_of_the_app_manager_last(tmp_path: Path) -> None:
    plan = planned(tmp_path, Watches, Beta, WatchesToo)
    assert names(plan)[0] == "beta"
    plan = planned(tmp_path, Watches, NeedsAlpha, WatchesToo, Zeta)
    assert names(plan)[:2] == ["zeta", "alpha"]
    assert InstanceKey("zeta") in plan.edges[InstanceKey("alpha")]
    assert plan.dependants(InstanceKey("zeta")) == []


def test_resolution_of_secrets_adds_the_vault(tmp_path: Path) -> None:
    told = refusal(tmp_path, Alpha, alpha={"x": "${secret:a#b}"})
    assert told == (
        "alpha (own of plugin lights (types:SimpleNamespace)) uses ${secret:...} in its settings, "
        "and there is no vault."
    )
    plan = planned(tmp_path, Alpha, alpha={"own": {"x": "${secret:a#b}"}}, vault={})
    assert names(plan) == ["vault", "alpha"]
    assert plan.nodes[InstanceKey("alpha")].secrets == (("a", "b"),)


def test_resolution_refuses_secrets_in_the_settings_of_the_vault(tmp_path: Path) -> None:
    told = refusal(tmp_path, Alpha, vault={"path": "${secret:a#b}"})
    assert "which comes from the vault itself: use ${env:NAME} or ${file:path} there" in told


def test_resolution_has_one_order_whatever_the_seed_of_hashes() -> None:
    code = """if True:
        from host_kit import Plain, offering
        from base04.discovery import discover
        from base04.resolution import resolve
        from base04.selection import select
        from base04.settings import load_settings

        parts = [type(name.title(), (Plain,), {"role": name}) for name in ("one", "two", "three", "four", "five")]
        def __init__(self, one, two, three, four, five): ...
        __init__.__annotations__ = {part.role: part for part in parts}
        whole = type("Whole", (Plain,), {"role": "whole", "__init__": __init__})
        settings = load_settings({"plugins": {"deny": ["*"]}}, environ={})
        discovery = discover(settings.plugins, extra_plugins=[("lights", offering(whole, *parts))])
        print([str(key) for key in resolve(select(discovery, settings), settings).nodes])
    """
    seen = set()
    for seed in ("1", "2", "3"):
        environ = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parent.parent)}
        done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)
        assert not done.stderr
        seen.add(done.stdout)
    assert len(seen) == 1
    assert seen.pop().endswith("'whole']\n")
