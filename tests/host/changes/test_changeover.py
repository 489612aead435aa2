"""Plugins switched, and settings read anew, while the host runs."""

from __future__ import annotations

import asyncio
import json
import shutil
import textwrap
from pathlib import Path
from typing import Any, cast

import httpx2 as httpx
import pytest
import yaml
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Route
from structlog.testing import capture_logs

from base04.app_manager import AppManager
from base04.server.control_socket import LocalCaller
from base04_builtin.services.inprocess import InProcessServicesManager
from base04_builtin.services.settings import InProcessServicesSettings
from base04_hookspecs import HealthReport, Provider, health_report, hookimpl
from base04_hookspecs.errors import Conflict, NotFound
from base04_hookspecs.manager import Manager
from base04_hookspecs.settings import ManagerSettings
from host_kit import Site, until, write_module

PLUGIN = """
from base04_hookspecs import Provider, hookimpl
from starlette.responses import PlainTextResponse
from starlette.routing import Route

async def word(request):
    return PlainTextResponse({word!r})

@hookimpl
def routes():
    return [Route("/word", word)]

@hookimpl
def startup():
    async def begin(app):
        app.journal.append("startup {word}")
    return [begin]

@hookimpl
def shutdown():
    async def end(app):
        app.journal.append("shutdown {word}")
    return [end]
"""


class Journalled(AppManager):
    """A host whose plugins leave notes."""

    journal: list[str]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.journal = []


class OtherServices(InProcessServicesManager):
    """Somebody else's."""


class Slow:
    """A plugin that replaces services, and whose one route answers when it is told to."""

    def __init__(self) -> None:
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    @hookimpl
    def services_providers(self) -> list[Provider]:
        return [Provider("other", OtherServices)]

    @hookimpl
    def routes(self) -> list[BaseRoute]:
        async def slow(request: object) -> PlainTextResponse:
            self.asked.set()
            await self.go_on.wait()
            return PlainTextResponse("done")

        return [Route("/slow", slow)]


def settings_file(tmp_path: Path, text: str = "") -> Path:
    file = tmp_path / "base04.yaml"
    (tmp_path / "plugins").mkdir(exist_ok=True)
    head = f"data_dir: {tmp_path / 'data'}\nplugins: {{paths: ['{tmp_path / 'plugins'}'], autoload: false}}\n"
    file.write_text(head + textwrap.dedent(text))
    return file


def local_plugin(tmp_path: Path, word: str) -> str:
    """Write the plugin of this test, under a name that no other test has imported."""
    name = f"local_{tmp_path.name}"
    write_module(tmp_path / "plugins", name, PLUGIN.replace("{word!r}", repr(word)).replace("{word}", word))
    return name


async def ask(app: AppManager, path: str, method: str = "GET") -> httpx.Response:
    transport = httpx.ASGITransport(LocalCaller(app.serve))
    async with httpx.AsyncClient(transport=transport, base_url="http://host") as client:
        return await client.request(method, path)


async def test_plugin_is_switched_off_and_on_at_once_and_for_good(tmp_path: Path) -> None:
    settings = settings_file(tmp_path)
    name = local_plugin(tmp_path, "first")
    async with Journalled(settings) as app:
        assert (await ask(app, "/word")).text == "first"
        services = app.services_manager
        assert await app.disable_plugin(name)
        assert (await ask(app, "/word")).status_code == 404
        assert not await app.disable_plugin(name)
        await until(lambda: app.journal == ["startup first", "shutdown first"])
        assert app.services_manager is services, "who is not concerned stays"
    async with Journalled(settings) as app:
        assert (await ask(app, "/word")).status_code == 404
        (info,) = [plugin for plugin in app.list_plugins() if plugin["name"] == name]
        assert (info["status"], "base04 modules enable" in info["reason"]) == ("disabled", True)
        assert await app.enable_plugin(name)
        assert (await ask(app, "/word")).text == "first"
        assert not await app.enable_plugin(name)
        await until(lambda: app.journal == ["startup first"])
    assert json.loads((tmp_path / "data" / "modules.json").read_text()) == {"disabled": []}


async def test_plugin_of_a_running_manager_goes_only_with_swap(tmp_path: Path) -> None:
    slow = Slow()
    async with AppManager(settings_file(tmp_path), plugins=[("slow", slow)]) as app:
        before = app.services_manager
        assert isinstance(before, OtherServices)
        with pytest.raises(Conflict, match=r"provides services.*swap"):
            await app.disable_plugin("slow")
        request = asyncio.create_task(ask(app, "/slow"))
        await slow.asked.wait()
        assert await app.disable_plugin("slow", swap=True)
        assert not isinstance(app.services_manager, OtherServices)
        assert (await ask(app, "/slow")).status_code == 404
        assert app.succession.retired(app.generation), "the old one goes on for the request under way"
        slow.go_on.set()
        assert (await request).text == "done"
        await until(lambda: not app.succession.retired(app.generation))


class FlagsSettings(ManagerSettings):
    value: int = 0


class Flags(Manager):
    role = "flags"

    def __init__(self, settings: FlagsSettings) -> None:
        self.value = settings.value

    async def start(self) -> None:
        """Nothing to do."""

    async def stop(self) -> None:
        """Nothing to do."""

    async def health_check(self) -> HealthReport:
        return health_report("healthy")


class WithFlags:
    @hookimpl
    def extra_providers(self) -> list[Provider]:
        return [Provider("memory", Flags, role="flags", default=True)]


class NeedsFlags:
    @hookimpl
    def services_providers(self) -> list[Provider]:
        return [Provider("flagged", FlaggedServices)]


class FlaggedServices(InProcessServicesManager):
    def __init__(self, settings: InProcessServicesSettings, flags: Flags) -> None:
        super().__init__(settings)


async def test_role_of_its_own_goes_with_its_plugin_and_settings_wait_for_it(tmp_path: Path) -> None:
    settings = settings_file(tmp_path)
    document = yaml.safe_load(settings.read_text()) or {}
    settings.write_text(
        yaml.safe_dump({**document, "managers": {**document.get("managers", {}), "flags": {"value": 7}}})
    )
    async with AppManager(settings, plugins=[("flags", WithFlags())]) as app:
        assert await app.disable_plugin("flags")
        with pytest.raises(NotFound, match="switched off: flags"):
            app.get_manager("flags")
    async with AppManager(settings, plugins=[("flags", WithFlags())]) as app:
        assert await app.enable_plugin("flags")
        flags = app.get_manager("flags")
        assert isinstance(flags, Flags)
        assert flags.value == 7


async def test_role_of_its_own_stays_where_others_need_it(tmp_path: Path) -> None:
    plugins = [("flags", WithFlags()), ("needy", NeedsFlags())]
    async with AppManager(settings_file(tmp_path), plugins=plugins) as app:
        with pytest.raises(Conflict, match=r"provides flags \(needed by services\)"):
            await app.disable_plugin("flags")


async def test_log_tells_of_a_built_in_manager_whenever_somebody_else_takes_its_place(tmp_path: Path) -> None:
    def told() -> list[str]:
        return [entry["instead_of"] for entry in logs if entry["event"] == "a built-in manager is replaced"]

    with capture_logs() as logs:
        async with AppManager(settings_file(tmp_path), plugins=[("slow", Slow())]) as app:
            assert told() == ["inprocess"]
            assert await app.reload_plugin("builtin-redis")
            assert told() == ["inprocess"], "what stays as it is is told once"
            assert await app.disable_plugin("slow", swap=True)
            assert await app.enable_plugin("slow")
            assert told() == ["inprocess", "inprocess"]


async def test_only_provider_of_a_role_cannot_go(tmp_path: Path) -> None:
    async with AppManager(settings_file(tmp_path)) as app:
        generation = app.generation
        with pytest.raises(Conflict, match=r"builtin-redis.*redis.*needed by.*jwt"):
            await app.disable_plugin("builtin-redis")
        with pytest.raises(Conflict, match=r"Nothing has changed.*redis"):
            await app.disable_plugin("builtin-redis", swap=True)
        assert app.generation is generation
        assert not app.choices.read()


async def test_distribution_that_was_exchanged_goes_on_under_the_version_that_was_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, monkeypatch)
    site.install("exchanged", plugins={"exchanged": "exchanged_plugin"}, modules={"exchanged_plugin": ""})
    settings = tmp_path / "base04.yaml"
    settings.write_text(f"data_dir: {tmp_path / 'data'}\nplugins: {{allow: [exchanged]}}\n")
    async with AppManager(settings) as app:
        before = "1.0"
        for version in ("1.1", "1.2"):
            shutil.rmtree(site.folder / f"exchanged-{before}.dist-info")
            site.install("exchanged", version=version, plugins={"exchanged": "exchanged_plugin"})
            report = await app.reload()
            assert [f"is now {version} on disk, and 1.0 runs" in text for text in report["restart_needed"]] == [True]
            (info,) = [plugin for plugin in app.list_plugins() if plugin["name"] == "exchanged"]
            assert info["version"] == "1.0"
            before = version


async def test_unknown_and_denied_plugins_are_not_switched(tmp_path: Path) -> None:
    settings = settings_file(tmp_path)
    name = local_plugin(tmp_path, "denied")
    settings.write_text(settings.read_text().replace("autoload: false", f"autoload: false, deny: ['{name}']"))
    async with AppManager(settings) as app:
        with pytest.raises(NotFound, match="did you mean 'builtin-redis'"):
            await app.enable_plugin("builtin-rediss")
        with pytest.raises(Conflict, match=r"plugins\.deny names it"):
            await app.enable_plugin(name)
        assert not await app.disable_plugin(name)


async def test_reload_renews_exactly_what_changed_and_who_depends_on_it(tmp_path: Path) -> None:
    settings = settings_file(tmp_path, "managers: {rate_limiter: {limits: {ip: 100/minute}}}")
    async with AppManager(settings) as app:
        nothing = await app.reload()
        assert (nothing["settings"], nothing["renewed"], nothing["plugins"]) == ([], [], {})
        before = {key: item.manager for key, item in app.generation.running.items()}
        settings_file(tmp_path, "managers: {rate_limiter: {limits: {ip: 7/minute}}}\nserver: {port: 81}")
        said = await app.reload(dry_run=True)
        assert not said["applied"]
        assert {key: item.manager for key, item in app.generation.running.items()} == before
        done = await app.reload()
        assert done == {**said, "applied": True, "generation": app.generation.number}
        assert done["settings"] == ["managers.rate_limiter.limits.ip: changed", "server.port: added"]
        assert done["restart_needed"] == ["server.port is read when the host starts: restart it."]
        after = {key: item.manager for key, item in app.generation.running.items()}
        changed = [str(key) for key in after if after[key] is not before[key]]
        assert changed == done["renewed"] == ["rate_limiter"]
        info = await app.rate_limiter_manager.get_rate_limit_info("10.0.0.1", "ip")
        assert info["remaining"] == 7


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("managers: {redis: {provider: servre}}", "servre"),
        ("managers: {redis: {memory: {max_byte: 1}}}", "max_byte"),
        ("managers: [", "base04.yaml"),
        ("managers: {vault: {provider: none}}", "needs vault"),
    ],
)
async def test_faulty_file_changes_nothing(tmp_path: Path, text: str, message: str) -> None:
    async with AppManager(settings_file(tmp_path)) as app:
        generation, settings = app.generation, app.settings
        settings_file(tmp_path, text)
        with pytest.raises(Conflict, match=f"(?s)Nothing has changed.*{message}"):
            await app.reload()
        assert (app.generation, app.settings) == (generation, settings)
        answer = await ask(app, "/reload", "POST")
        assert (answer.status_code, answer.json()["status"]) == (409, 409)
        settings_file(tmp_path, "")
        assert (await app.reload())["applied"]


async def test_local_plugin_is_read_anew_when_it_has_changed(tmp_path: Path) -> None:
    settings = settings_file(tmp_path)
    name = local_plugin(tmp_path, "one")
    async with Journalled(settings) as app:
        local_plugin(tmp_path, "two")
        assert (await app.reload())["plugins"] == {name: "changed"}
        assert (await ask(app, "/word")).text == "two"
        await until(lambda: set(app.journal) == {"startup one", "startup two", "shutdown one"})
        write_module(tmp_path / "plugins", name, "raise LookupError('half written')")
        with pytest.raises(Conflict, match=f"{name}.*half written"):
            await app.reload()
        assert (await ask(app, "/word")).text == "two"
        (tmp_path / "plugins" / f"{name}.py").unlink()
        assert (await app.reload())["plugins"] == {name: "gone"}
        assert (await ask(app, "/word")).status_code == 404


async def test_plugin_that_comes_later_takes_part_after_a_reload(tmp_path: Path) -> None:
    settings = settings_file(tmp_path)
    async with Journalled(settings) as app:
        name = local_plugin(tmp_path, "later")
        assert (await app.reload())["plugins"] == {name: "enabled"}
        assert (await ask(app, "/word")).text == "later"
        assert (await ask(app, f"/modules/{name}")).json()["contributes"]["hooks"] == ["routes", "shutdown", "startup"]


async def test_manager_that_is_read_anew_sees_the_host_as_it_is_about_to_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = Site(tmp_path, monkeypatch)
    settings = settings_file(tmp_path)
    settings.write_text(settings.read_text().replace("autoload: false", "allow: [changeover-pack]"))
    async with AppManager(settings) as app:
        assert not app.action_discovery_manager.catalogue()
        site.install("changeover-pack", actions={"p": "changeover_pack"})
        package = site.folder / "changeover_pack"
        package.mkdir()
        (package / "__init__.py").write_text("def hello() -> str:\n    return 'hello'\n")
        head = "pack: p\nversion: 1.0.0\nactions:\n"
        (package / "actions.yaml").write_text(f"{head}  a: {{handler: changeover_pack:hello, access: public}}\n")
        report = await app.reload()
        assert (report["renewed"], report["plugins"]) == (["action_discovery"], {"p": "enabled"})
        assert await app.run_action("p.a") == "hello"
        assert await app.disable_plugin("p")
        assert not app.action_discovery_manager.catalogue()


async def test_what_plugins_registered_outlives_the_managers_that_they_registered_it_with(tmp_path: Path) -> None:
    heard: list[tuple[str, object]] = []
    stopped: list[str] = []

    class Clerk:
        @hookimpl
        def startup(self) -> list[Any]:
            async def begin(app: AppManager) -> None:
                await app.hooks_manager.register_callback("bell", lambda **data: heard.append(("bell", data["who"])))
                await app.services_manager.register_service(
                    "desk", lambda: object(), stop=lambda _: stopped.append("desk")
                )
                state = app.get_state_manager()
                await state.register_callback("note_*", lambda change: heard.append(("live", change["version"])))
                await state.register_callback("note_*", note, name="clerk")
                await app.jwt_manager.register_claims_source("clerk", claims)

            return [begin]

    async def claims(user_id: str, reference: str) -> dict[str, Any]:
        return {"desk": reference}

    async def note(change: Any) -> None:
        heard.append(("durable", change["version"]))

    async with AppManager(settings_file(tmp_path), plugins=[("clerk", Clerk())]) as app:
        desk = await app.services_manager.get_service("desk")
        before = (app.hooks_manager, app.services_manager, app.get_state_manager())
        refresh = await app.jwt_manager.create_refresh_token("ada", source="clerk:7")
        for plugin in ("builtin-hooks", "builtin-services", "builtin-state", "builtin-jwt"):
            assert await app.reload_plugin(plugin)
        after = (app.hooks_manager, app.services_manager, app.get_state_manager())
        assert not set(map(id, before)) & set(map(id, after))
        await until(lambda: not app.succession.retired(app.generation))
        assert await app.services_manager.get_service("desk") is desk
        assert not stopped
        await app.hooks_manager.trigger_hook("bell", who="ada")
        await app.get_state_manager().register_state("note_1", "resource", {})
        await until(lambda: {("bell", "ada"), ("live", 1), ("durable", 1)} <= set(heard))
        assert len(heard) == 3, "and each is called once"
        pair = await app.jwt_manager.refresh_token(refresh)
        assert (await app.jwt_manager.validate_token(pair["access_token"]))["desk"] == "7"
    assert stopped == ["desk"]


async def test_requests_go_on_while_managers_are_renewed_over_and_over(tmp_path: Path) -> None:
    settings = settings_file(tmp_path, "managers: {rate_limiter: {limits: {ip: 1000000/minute}}}")
    local_plugin(tmp_path, "always")
    async with Journalled(settings) as app:
        stop = asyncio.Event()

        async def caller() -> int:
            answered = 0
            while not stop.is_set():
                assert (await ask(app, "/word")).text == "always"
                answered += 1
                await asyncio.sleep(0)  # nothing above waits for anything, so nobody else would run
            return answered

        callers = [asyncio.create_task(caller()) for _ in range(4)]
        for number in range(5):
            settings_file(tmp_path, f"managers: {{rate_limiter: {{limits: {{ip: {1000000 + number}/minute}}}}}}")
            assert (await app.reload())["applied"]
        assert await app.reload_plugin("builtin-redis"), "and with everybody who depends on it"
        stop.set()
        assert all(await asyncio.gather(*callers))
        await until(lambda: not app.succession.retired(app.generation))


async def test_changes_need_the_permission_to_manage(tmp_path: Path) -> None:
    async with AppManager(settings_file(tmp_path)) as app:
        key = await app.api_key_manager.generate_api_key("ada", ["host.read"])
        transport = httpx.ASGITransport(cast("Any", app.serve))
        async with httpx.AsyncClient(transport=transport, base_url="http://host", headers={"x-api-key": key}) as client:
            assert (await client.get("/modules/builtin-redis")).status_code == 200
            for path in ("/reload", "/modules/builtin-redis/disable", "/modules/builtin-redis/reload"):
                assert (await client.post(path)).status_code == 403
        assert (await ask(app, "/modules/builtin-redis/disable?swap=maybe", "POST")).status_code == 422
