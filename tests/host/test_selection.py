from __future__ import annotations

from typing import Any

import pytest
import yaml

from base04.discovery import Discovery, HookRegistry
from base04.errors import SelectionError, SettingsError
from base04.plugins.plugin import Candidate, Plugin
from base04.selection import InstanceKey, Selection, select
from base04.settings import load_settings
from base04_hookspecs import Provider

REDIS = InstanceKey("redis")
BUILTIN = ("builtin-redis", [("memory", True), ("server", False)])


def discovered(*plugins: tuple[str, list[tuple[str, bool]]], role: str = "redis") -> Discovery:
    """Return a discovery with plugins that offer providers (name, default) of one role."""
    discovery = Discovery(HookRegistry())
    for name, providers in sorted(plugins):
        built_in = name.startswith("builtin-")
        plugin = Plugin(name, "builtin" if built_in else "installed", name, f"{name}-dist", "1.0")
        plugin.candidates = [
            Candidate(role, Provider(provider, "a.b:C", default=default), plugin) for provider, default in providers
        ]
        discovery.plugins[name] = plugin
    return discovery


def chosen(discovery: Discovery, **managers: Any) -> Selection:
    return select(discovery, load_settings({"managers": managers}, environ={}))


def name_of(selection: Selection, key: InstanceKey = REDIS) -> str:
    return selection.choices[key].candidate.qualified_name


def test_selection_takes_the_builtin_default_when_nobody_says_otherwise() -> None:
    selection = chosen(discovered(BUILTIN))
    assert name_of(selection) == "builtin-redis:memory"
    assert selection.choices[REDIS].replaces is None


def test_selection_takes_the_only_third_party_candidate_and_reports_the_replacement() -> None:
    selection = chosen(discovered(BUILTIN, ("acme", [("fast", False)])))
    assert name_of(selection) == "acme:fast"
    replaced = selection.choices[REDIS].replaces
    assert replaced is not None
    assert replaced.qualified_name == "builtin-redis:memory"


def test_selection_takes_the_one_default_of_a_plugin_with_several_providers() -> None:
    assert name_of(chosen(discovered(BUILTIN, ("acme", [("slow", False), ("fast", True)])))) == "acme:fast"
    with pytest.raises(SelectionError):
        chosen(discovered(BUILTIN, ("acme", [("slow", True), ("fast", True)])))
    with pytest.raises(SelectionError):
        chosen(discovered(BUILTIN, ("acme", [("slow", True)]), ("zeta", [("fast", False)])))


def test_selection_takes_what_settings_name() -> None:
    discovery = discovered(BUILTIN, ("acme", [("fast", False)]))
    assert name_of(chosen(discovery, redis={"provider": "server"})) == "builtin-redis:server"
    assert name_of(chosen(discovery, redis={"provider": "acme:fast"})) == "acme:fast"
    assert chosen(discovery, redis={"provider": "server"}).choices[REDIS].replaces is None


@pytest.mark.parametrize("instance", [None, "reports"])
def test_selection_of_two_third_party_candidates_shows_both_and_a_line_that_works(instance: str | None) -> None:
    discovery = discovered(BUILTIN, ("acme", [("fast", False)]), ("zeta", [("quick", False)]))
    managers = {} if instance is None else {"redis": {"provider": "memory", "instances": {instance: {}}}}
    with pytest.raises(SelectionError) as refused:
        chosen(discovery, **managers)
    told = str(refused.value)
    assert "fast of plugin acme (acme-dist 1.0)" in told
    assert "quick of plugin zeta (zeta-dist 1.0)" in told
    line = yaml.safe_load(told.splitlines()[-1])
    selection = chosen(discovery, redis={**line["managers"]["redis"], **({"provider": "memory"} if instance else {})})
    assert name_of(selection, InstanceKey("redis", instance or "default")) == "acme:fast"


@pytest.mark.parametrize("line_of", ["acme:server", "zeta:server"])
def test_selection_of_a_name_that_several_plugins_use_asks_for_the_plugin(line_of: str) -> None:
    discovery = discovered(("acme", [("server", False)]), ("zeta", [("server", False)]))
    with pytest.raises(SelectionError, match="several plugins offer a provider 'server'") as refused:
        chosen(discovery, redis={"provider": "server"})
    line = yaml.safe_load(str(refused.value).splitlines()[-1])
    assert line == {"managers": {"redis": {"provider": "acme:server"}}}
    assert name_of(chosen(discovery, redis={"provider": line_of})) == line_of


def test_selection_of_a_provider_that_does_not_exist_lists_those_that_do() -> None:
    discovery = discovered(BUILTIN, ("acme", [("fast", False)]))
    discovery.plugins["broken"] = Plugin("broken", "installed", "broken", "broken-dist", "2.0")
    discovery.plugins["broken"].fail("ValueError: no luck", "Traceback ...")
    with pytest.raises(SelectionError) as refused:
        chosen(discovery, redis={"provider": "sever"})
    told = str(refused.value)
    assert "managers.redis.provider: no provider 'sever'" in told
    assert "Did you mean 'server'?" in told
    for listed in ("memory of plugin builtin-redis", "server of plugin builtin-redis", "fast of plugin acme"):
        assert listed in told
    assert "broken (broken-dist 2.0): ValueError: no luck" in told


def test_selection_switches_a_role_off_and_says_so() -> None:
    selection = chosen(discovered(BUILTIN), redis={"provider": "none"})
    assert REDIS not in selection.choices
    assert selection.absent["redis"] == "it is switched off by managers.redis.provider: none"
    assert "no plugin offers" in selection.absent["state"]


def test_selection_of_named_instances_is_their_own() -> None:
    selection = chosen(
        discovered(BUILTIN),
        redis={"instances": {"jobs": {"provider": "server"}, "other": {"provider": "none"}, "plain": {}}},
    )
    assert name_of(selection) == "builtin-redis:memory"
    assert name_of(selection, InstanceKey("redis", "jobs")) == "builtin-redis:server"
    assert name_of(selection, InstanceKey("redis", "plain")) == "builtin-redis:memory"
    assert "managers.redis.instances.other.provider: none" in selection.absent["redis/other"]


def test_selection_refuses_a_second_default_instance() -> None:
    with pytest.raises(SettingsError, match=r"managers\.redis\.instances\.default: .*managers\.redis itself"):
        chosen(discovered(BUILTIN), redis={"instances": {"default": {"provider": "server"}}})


def test_selection_refuses_settings_of_roles_that_nobody_offers() -> None:
    with pytest.raises(SettingsError) as refused:
        chosen(discovered(BUILTIN), rediss={}, qqqq={})
    told = [str(fault) for fault in refused.value.faults]
    assert told[0] == "managers.rediss: There is no such role; did you mean 'redis'?"
    assert "managers.qqqq: There is no such role; there are action_discovery" in told[1]
    discovery = discovered(("mail", [("smtp", False)]), role="mailer")
    assert name_of(chosen(discovery, mailer={}), InstanceKey("mailer")) == "mail:smtp"


def test_selection_knows_which_names_have_a_part_in_the_settings() -> None:
    choice = chosen(discovered(BUILTIN)).choices[REDIS]
    assert choice.offered == {"memory", "server"}
