from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from base04.discovery import Discovery, discover
from base04.plugins.plugin import Plugin
from base04.settings import PluginSettings
from host_kit import Site, rate_limiter_plugin, write_module

HEALTHY = rate_limiter_plugin()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    return Site(tmp_path, monkeypatch)


def found(name: str, *, safe_mode: bool = False, **settings: Any) -> Plugin:
    return discover(PluginSettings(**settings), safe_mode=safe_mode).plugins[name]


def test_discovery_finds_installed_plugins_and_their_providers(site: Site) -> None:
    site.install("disc-ok", version="1.2", plugins={"disc-ok": "disc_ok"}, modules={"disc_ok": HEALTHY})
    plugin = found("disc-ok")
    assert (plugin.status, plugin.source, plugin.origin) == ("enabled", "installed", "disc-ok 1.2")
    assert [(item.role, item.qualified_name) for item in plugin.candidates] == [("rate_limiter", "disc-ok:counting")]
    assert plugin.describe(["rate_limiter:counting"])["contributes"] == {
        "providers": ["rate_limiter:counting"],
        "running": ["rate_limiter:counting"],
        "hooks": ["rate_limiter_providers"],
        "packs": [],
    }


FAILING = {
    "raises": ("raise RuntimeError('no luck today')", "RuntimeError: no luck today", True),
    "exits": ("raise SystemExit(3)", "SystemExit: 3", True),
    "syntax": ("def :", "SyntaxError", True),
    "lacks_a_library": ("import no_such_library_at_all", "ModuleNotFoundError", True),
    "wrapper": (
        "from base04_hookspecs import hookimpl\n@hookimpl(wrapper=True)\ndef routes():\n    return (yield)\n",
        "implemented as a wrapper",
        False,
    ),
    "old_wrapper": (
        "from base04_hookspecs import hookimpl\n@hookimpl(hookwrapper=True)\ndef routes():\n    yield\n",
        "implemented as a wrapper",
        False,
    ),
    "unknown_hook": (
        "from base04_hookspecs import hookimpl\n@hookimpl\ndef redis_provider():\n    return []\n",
        "There is no hook 'redis_provider'; did you mean 'redis_providers'?",
        False,
    ),
    "wrong_signature": (
        "from base04_hookspecs import hookimpl\n@hookimpl\ndef routes(colour):\n    return []\n",
        "The hook routes(colour) asks for 'colour'",
        False,
    ),
    "not_a_provider": (
        "from base04_hookspecs import hookimpl\n@hookimpl\ndef redis_providers():\n    return ['memory']\n",
        "gave 'memory', which is not a Provider",
        False,
    ),
    "bad_provider": (rate_limiter_plugin("Bad Name"), "provider name 'Bad Name' is not usable", False),
    "raising_hook": (
        "from base04_hookspecs import hookimpl\n@hookimpl\ndef redis_providers():\n    raise KeyError('x')\n",
        "KeyError: 'x'",
        True,
    ),
    "newer_contract": (
        rate_limiter_plugin(contract="'1.7'"),
        "version 1.7 of the contract 'rate_limiter', and this Base04 has version 1.0",
        False,
    ),
    "other_role": (rate_limiter_plugin(role="'redis'"), "gave a provider of the role 'redis'", False),
    "no_role": (
        "from base04_hookspecs import Provider, hookimpl\n@hookimpl\ndef extra_providers():\n"
        "    yield Provider('a', 'b:C')\n",
        "name a role of your own",
        False,
    ),
    "twice": (
        "from base04_hookspecs import Provider, hookimpl\n@hookimpl\ndef redis_providers():\n"
        "    return [Provider('a', 'b:C'), Provider('a', 'b:D')]\n",
        "offers two providers 'a'",
        False,
    ),
}


@pytest.mark.parametrize("kind", FAILING)
def test_discovery_leaves_out_a_plugin_that_fails_and_goes_on(site: Site, kind: str) -> None:
    source, told, has_traceback = FAILING[kind]
    bad, good = f"disc-a-{kind}", f"disc-b-{kind}"
    for name, text in ((bad, source), (good, HEALTHY)):
        module = name.replace("-", "_")
        site.install(name, plugins={name: module}, modules={module: text})
    discovery = discover(PluginSettings())
    failed = discovery.plugins[bad]
    assert (failed.status, failed.candidates, failed.hooks) == ("failed", [], [])
    assert told in failed.reason
    assert ("Traceback" in failed.error) == has_traceback
    assert failed in discovery.failed()
    assert discovery.plugins[good].status == "enabled"
    assert not [name for name, _ in discovery.registry.implementations("routes") if name == bad]


@pytest.mark.parametrize(
    ("requirement", "status"),
    [
        ("base04>=99", "failed"),
        ("Base04<0.0.1", "failed"),
        ("base04 (!=0.1.0,>99)", "failed"),
        ("base04>=0.0.1", "enabled"),
        ("base04-something>=99", "enabled"),
        ("base04>=99; python_version < '3'", "enabled"),
        ("base04>=99; extra == 'next'", "enabled"),
    ],
)
def test_discovery_refuses_what_needs_another_base04(site: Site, requirement: str, status: str) -> None:
    name = f"disc-req-{abs(hash(requirement))}"
    module = name.replace("-", "_")
    site.install(name, plugins={name: module}, modules={module: HEALTHY}, requires=[requirement])
    plugin = found(name)
    assert plugin.status == status
    if status == "failed":
        assert "and this is base04" in plugin.reason
        assert module not in sys.modules


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"deny": ("disc-left-*",)}, "plugins.deny"),
        ({"deny": ("dist-of-*",)}, "plugins.deny"),
        ({"allow": ("something-else",)}, "plugins.allow does not name it"),
        ({"autoload": False}, "plugins.autoload is false"),
        ({"safe_mode": True}, "safe mode"),
        ({"allow": ("disc-left-*",), "deny": ("disc-left-out-?*",)}, "plugins.deny"),
    ],
)
def test_discovery_leaves_out_before_import(site: Site, settings: dict[str, Any], reason: str) -> None:
    name = f"disc-left-out-{abs(hash(str(settings)))}"
    module = name.replace("-", "_")
    site.install(f"dist-of-{name}", plugins={name: module}, modules={module: HEALTHY}, actions={"pack": module})
    plugin = found(name, **settings)
    assert plugin.status == "denied"
    assert reason in plugin.reason
    assert module not in sys.modules


@pytest.mark.parametrize(
    "settings",
    [
        {"allow": ("disc-let-in-*",)},
        {"allow": ("dist-of-disc-let-in-*",), "autoload": False},
        {"allow": ("disc-let-in-?", "*")},
    ],
)
def test_discovery_lets_in_what_is_allowed(site: Site, settings: dict[str, Any]) -> None:
    name = f"disc-let-in-{abs(hash(str(settings)))}"
    module = name.replace("-", "_")
    site.install(f"dist-of-{name}", plugins={name: module}, modules={module: HEALTHY})
    assert found(name, **settings).status == "enabled"
    assert found("builtin-redis", **settings).status == "enabled"


def test_discovery_takes_plugins_from_folders(tmp_path: Path, site: Site) -> None:
    folder = tmp_path / "plugins"
    (folder / "disc_local_package").mkdir(parents=True)
    write_module(folder / "disc_local_package", "__init__", HEALTHY)
    write_module(folder, "disc_local_one", HEALTHY)
    write_module(folder, "disc_local_bad", "raise ValueError('bad')")
    write_module(folder, "disc_local_denied", HEALTHY)
    write_module(folder, "_private", "raise ValueError('never imported')")
    write_module(folder, "json", HEALTHY)
    (folder / "notes.txt").write_text("not a plugin")
    settings = PluginSettings(paths=(folder, tmp_path / "missing"), autoload=False, deny=("*_denied",))
    plugins = discover(settings).plugins
    assert plugins["disc_local_one"].status == plugins["disc_local_package"].status == "enabled"
    assert plugins["disc_local_one"].source == "path"
    assert plugins["disc_local_one"].origin == str(folder / "disc_local_one.py")
    assert "ValueError: bad" in plugins["disc_local_bad"].error
    assert plugins["disc_local_denied"].status == "denied"
    assert "disc_local_denied" not in sys.modules
    assert "is taken by" in plugins["json"].reason
    assert "not a folder" in plugins[str(tmp_path / "missing")].reason
    assert not {"_private", "notes"} & plugins.keys()
    assert "disc_local_one" not in discover(settings, safe_mode=True).plugins


def test_discovery_keeps_the_first_of_two_plugins_of_one_name(site: Site) -> None:
    for dist in ("disc-same-a", "disc-same-b"):
        module = dist.replace("-", "_")
        site.install(dist, plugins={"disc-same": module}, modules={module: HEALTHY})
    plugins = discover(PluginSettings()).plugins
    assert plugins["disc-same"].distribution == "disc-same-a"
    assert "is taken by the plugin of disc-same-a 1.0" in plugins["disc-same (disc-same-b 1.0)"].reason


def test_discovery_a_denied_plugin_does_not_take_the_name_of_another(site: Site) -> None:
    for dist in ("disc-name-a", "disc-name-b"):
        module = dist.replace("-", "_")
        site.install(dist, plugins={"disc-name": module}, modules={module: HEALTHY})
    plugins = discover(PluginSettings(deny=("disc-name-a",))).plugins
    assert (plugins["disc-name"].distribution, plugins["disc-name"].status) == ("disc-name-b", "enabled")
    assert plugins["disc-name (disc-name-a 1.0)"].status == "denied"


def test_discovery_no_installed_plugin_takes_the_name_of_a_builtin(site: Site) -> None:
    site.install("a-thief", plugins={"builtin-redis": "disc_thief"}, modules={"disc_thief": HEALTHY})
    plugins = discover(PluginSettings()).plugins
    assert plugins["builtin-redis"].source == "builtin"
    assert plugins["builtin-redis (a-thief 1.0)"].status == "failed"


def test_discovery_orders_by_name(site: Site) -> None:
    for name in ("disc-order-c", "disc-order-a", "disc-order-b"):
        module = name.replace("-", "_")
        source = f"{HEALTHY}\n    @hookimpl\n    def startup():\n        return []\n"
        site.install(f"z-{name[-1]}", plugins={name: module}, modules={module: source})
    discovery = discover(PluginSettings())
    ordered = ["disc-order-a", "disc-order-b", "disc-order-c"]
    assert list(discovery.plugins) == sorted(discovery.plugins)
    assert [name for name, _ in discovery.registry.implementations("startup") if name in ordered] == ordered
    offered = [item.plugin.name for item in discovery.candidates["rate_limiter"]]
    assert [name for name in offered if name in ordered] == ordered


def test_discovery_takes_classes_and_the_objects_of_the_program() -> None:
    from base04_hookspecs import Provider, hookimpl

    class Offering:
        @hookimpl
        def redis_providers(self) -> list[Provider]:
            return [Provider("mine", "a.b:C")]

    discovery = discover(PluginSettings(autoload=False), extra_plugins=[("mine", Offering), ("also", Offering())])
    for name in ("mine", "also"):
        assert discovery.plugins[name].source == "program"
        assert [str(item.role) for item in discovery.plugins[name].candidates] == ["redis"]


def test_discovery_finds_action_packs_without_importing_them(site: Site) -> None:
    module = "disc_packs"
    site.install(
        "disc-packs", plugins={"disc-packs": module}, actions={"greet": "disc_pack_data"}, modules={module: ""}
    )
    site.install("disc-newer", actions={"newer": "disc_newer"}, requires=["base04>99"])
    site.install("disc-broken", actions={"broken": "disc_broken"}, requires=["base04 what is this"])
    discovery = discover(PluginSettings())
    mine = [source for source in discovery.action_sources if source["name"] in ("greet", "newer", "broken")]
    assert mine == [{"name": "greet", "package": "disc_pack_data", "distribution": "disc-packs", "version": "1.0"}]
    assert discovery.plugins["disc-packs"].packs == ["greet"]
    assert "disc_pack_data" not in sys.modules


def test_discovery_imports_no_implementation() -> None:
    code = """if True:
        import sys
        from base04.discovery import discover
        from base04.settings import PluginSettings
        plugins = discover(PluginSettings(autoload=False)).plugins
        assert len([p for p in plugins.values() if p.source == 'builtin' and p.status == 'enabled']) >= 12, plugins
        heavy = {'sqlalchemy', 'sqlite3', 'joserfc', 'jsonschema_rs', 'cryptography', 'uvicorn', 'typer', 'tenacity',
                 'starlette', 'websockets'}
        print(sorted(heavy & sys.modules.keys()))
        packages = {'base04_builtin'} | {p.target for p in plugins.values()}
        print(sorted(name for name in sys.modules if name.startswith('base04_builtin') and name not in packages))
    """
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[]\n[]\n", "")


def test_discovery_of_nothing_has_every_role() -> None:
    from base04.discovery import HookRegistry

    assert Discovery(HookRegistry()).candidates["state"] == []
