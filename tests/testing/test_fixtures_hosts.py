"""The fixtures of hosts, as projects of third parties use them."""

from __future__ import annotations

from pathlib import Path

import pytest

from testing_kit import INI, Project

PLUGIN = """
    from base04_hookspecs import current_request, hookimpl
    from starlette.responses import JSONResponse
    from starlette.routing import Route


    async def who(request):
        principal = current_request().principal
        return JSONResponse({"user_id": principal.user_id, "permissions": list(principal.permissions)})


    class Who:
        @hookimpl
        def routes(self):
            yield Route("/who", who)
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.write("who.py", PLUGIN)
    project.write(
        "conftest.py",
        """
        import pytest
        from who import Who

        @pytest.fixture
        def app_plugins():
            return [("who", Who())]
        """,
    )
    return project


USES = """
    import pytest
    {imports}

    {mark}
    async def test_app_runs(app):
        assert app.is_initialized()
        assert [plugin["name"] for plugin in app.list_plugins() if plugin["source"] == "program"] == ["who"]

    {mark}
    async def test_clients(client, admin_client):
        assert (await client.get("/who")).json() == {{"user_id": None, "permissions": []}}
        assert (await admin_client.get("/who")).json() == {{"user_id": "admin", "permissions": ["*"]}}
        ada = await client.as_user("ada", ["notes.read"])
        assert (await ada.get("/who")).json() == {{"user_id": "ada", "permissions": ["notes.read"]}}
        key = await ada.with_key("grace", ["notes.*"])
        assert (await key.get("/who")).json() == {{"user_id": "grace", "permissions": ["notes.*"]}}
        assert (await key.as_stranger().get("/who")).json()["user_id"] is None
        assert (await client.get("/managers")).status_code == 401
        assert (await admin_client.get("/managers")).status_code == 200

    {mark}
    async def test_several_hosts(make_app):
        one = await make_app()
        two = await make_app({{"managers": {{"rate_limiter": {{"provider": "none"}}}}}}, [])
        assert one.data_dir != two.data_dir
        assert [p["name"] for p in two.list_plugins() if p["source"] == "program"] == []
        async with make_app(only=["redis"]) as three:
            assert await three.get_manager("redis").ping()
        assert not three.is_initialized()

    {mark}
    async def test_blocked(make_app, tmp_path):
        first = await make_app({{"data_dir": str(tmp_path / "data")}})
        await first.get_state_manager().register_state("s", "user", {{"n": 1}})
        await first.stop()
        again = await make_app({{"data_dir": str(tmp_path / "data")}})
        assert (await again.get_state_manager().get_state("s"))["data"] == {{"n": 1}}

    def test_host_for_those_who_are_not_async(blocking_app):
        assert blocking_app.check_database_connection()
        assert [p["name"] for p in blocking_app.list_plugins() if p["source"] == "program"] == ["who"]
"""


@pytest.mark.parametrize("arguments", [(), ("-n", "2"), ("--cov=who",)], ids=["alone", "xdist", "cov"])
def test_fixtures_work_with_pytest_asyncio_in_auto_mode(project: Project, arguments: tuple[str, ...]) -> None:
    project.write("test_it.py", USES.format(imports="", mark=""))
    done = project.run(*arguments)
    assert (done.status, done.counts) == (0, {"passed": 5}), done.text


def test_fixtures_work_with_pytest_asyncio_in_strict_mode(project: Project) -> None:
    project.write("pytest.ini", INI.format(mode="strict"))
    project.write("test_it.py", USES.format(imports="", mark="@pytest.mark.asyncio"))
    done = project.run()
    assert (done.status, done.counts) == (0, {"passed": 5}), done.text


def test_fixtures_work_on_one_event_loop_for_all_tests(project: Project) -> None:
    scopes = "asyncio_default_fixture_loop_scope = session\nasyncio_default_test_loop_scope = session\n"
    project.write("pytest.ini", f"[pytest]\nasyncio_mode = auto\nfilterwarnings = error\n{scopes}")
    project.write("bad.py", STOPS)
    later = """
    async def test_leak(make_app):
        from bad import Leaking
        await make_app(plugins=[("leaking", Leaking())])

    async def test_next_one_is_clean(app):
        test_next_one_is_clean.own = __import__("asyncio").create_task(__import__("asyncio").sleep(3600))
    """
    project.write("test_it.py", USES.format(imports="", mark="") + later)
    done = project.run()
    assert done.counts == {"passed": 7, "error": 1}, done.text
    assert done.text.count("(task 'my leak')") >= 1


def test_fixtures_work_with_anyio(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\nfilterwarnings = error\n")
    backend = "@pytest.fixture\n    def anyio_backend():\n        return 'asyncio'\n"
    project.write("test_it.py", USES.format(imports=backend, mark="@pytest.mark.anyio"))
    done = project.run("-p", "no:asyncio")
    assert (done.status, done.counts) == (0, {"passed": 5}), done.text


def test_missing_runner_of_async_fixtures_is_named(project: Project) -> None:
    project.write("pytest.ini", "[pytest]\n")
    project.write(
        "test_it.py",
        """
        def test_app(app): ...

        def test_blocking(blocking_app):
            assert blocking_app.is_initialized()
        """,
    )
    done = project.run("-p", "no:asyncio", "-p", "no:anyio")
    assert done.counts == {"passed": 1, "error": 1}, done.text
    assert "run `pip install pytest-asyncio`, or use `blocking_app`" in done.text


def test_host_is_kept_apart_from_environment_folder_and_what_is_installed(project: Project, tmp_path: Path) -> None:
    project.write("base04.yaml", "server: {port: 1111}\nthere_is: no such key\n")
    site = tmp_path / "site"
    project.write("site/acme.py", "")
    project.write("site/acme-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    project.write("site/acme-1.0.dist-info/entry_points.txt", "[base04.plugins]\nacme = acme\nacme-two = acme\n")
    project.write(
        "test_it.py",
        """
        import os
        from pathlib import Path

        def told(app):
            return {p["name"]: p["status"] for p in app.list_plugins() if p["source"] == "installed"}

        async def test_app(app):
            assert app.settings.server.port == 8000
            assert app.data_dir != Path("elsewhere").absolute()
            assert told(app)["acme"] == "denied"

        def test_blocking(blocking_app):
            assert told(blocking_app)["acme"] == "denied"

        async def test_installed_plugin_that_is_named_takes_part(make_app):
            app = await make_app(plugins=["acme-t*"])
            assert (told(app)["acme"], told(app)["acme-two"]) == ("denied", "enabled")

        async def test_references_go_on(make_app, monkeypatch):
            monkeypatch.setenv("PORT_OF_TEST", "2222")
            app = await make_app({"server": {"port": "${env:PORT_OF_TEST}"}})
            assert app.settings.server.port == 2222
        """,
    )
    done = project.run(environ={"BASE04_DATA_DIR": "elsewhere", "BASE04_SERVER__PORT": "3333", "PYTHONPATH": str(site)})
    assert (done.status, done.counts) == (0, {"passed": 4}), done.text
    assert not (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "base04-data").exists()


def test_host_is_stopped_after_a_test_that_fails(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        from who import Who
        kept = []

        async def test_fails(app):
            kept.append(app)
            assert False, "on purpose"

        def test_fails_too(blocking_app):
            kept.append(blocking_app)
            assert False, "on purpose"

        def test_both_have_stopped():
            assert [app.is_initialized() for app in kept] == [False, False]
        """,
    )
    done = project.run()
    assert done.counts == {"failed": 2, "passed": 1}, done.text


STOPS = """
    import asyncio
    import pytest
    from base04_hookspecs import Manager, Provider, health_report, hookimpl


    class Bad(Manager):
        role = "bad"

        async def stop(self):
            raise RuntimeError("the door is stuck")

        async def health_check(self):
            return health_report()


    class Offering:
        @hookimpl
        def extra_providers(self):
            yield Provider("bad", Bad, role="bad")


    class Leaking:
        @hookimpl
        def startup(self):
            async def begin(app):
                self.task = asyncio.create_task(asyncio.Event().wait(), name="my leak")

            yield begin
"""


def test_host_that_cannot_stop_cleanly_fails_the_test(project: Project) -> None:
    project.write("bad.py", STOPS)
    project.write(
        "test_it.py",
        """
        import pytest
        from bad import Leaking, Offering

        class TestBad:
            @pytest.fixture
            def app_plugins(self):
                return [("offering", Offering())]

            async def test_app(self, app): ...

            def test_blocking(self, blocking_app): ...

        class TestLeaking:
            @pytest.fixture
            def app_plugins(self):
                return [("leaking", Leaking())]

            async def test_app(self, app): ...

        async def test_one_of_two(make_app):
            await make_app(plugins=[("offering", Offering())])
            test_one_of_two.good = await make_app()

        def test_the_other_has_stopped():
            assert not test_one_of_two.good.is_initialized()
        """,
    )
    done = project.run()
    assert done.counts == {"passed": 5, "error": 4}, done.text
    assert done.text.count("the door is stuck") >= 3
    assert "tasks that began with it still run" in done.text
    assert "(task 'my leak')" in done.text


def test_forgotten_hosts_are_reported_and_stopped(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest
        import base04, base04.blocking

        async def test_forgets(tmp_path):
            app = base04.AppManager({"data_dir": str(tmp_path)})
            await app.start()

        def test_forgets_too(tmp_path):
            test_forgets_too.app = base04.blocking.AppManager({"data_dir": str(tmp_path)})
            test_forgets_too.app.start()

        def test_has_been_stopped():
            assert not test_forgets_too.app.is_initialized()

        async def test_stops(tmp_path):
            async with base04.AppManager({"data_dir": str(tmp_path)}): ...

        @pytest.fixture
        async def started():
            hosts = []

            async def start(folder):
                app = base04.AppManager({"data_dir": str(folder)})
                await app.start()
                hosts.append(app)

            yield start
            for app in hosts:
                await app.stop()

        async def test_fixture_of_its_own(started, tmp_path):
            await started(tmp_path)

        @pytest.fixture(scope="module")
        def wide(tmp_path_factory):
            with base04.blocking.AppManager({"data_dir": str(tmp_path_factory.mktemp("wide"))}) as app:
                yield app

        def test_wider_fixture(wide): ...

        def test_wider_fixture_again(wide):
            assert wide.is_initialized()
        """,
    )
    done = project.run("-W", "ignore")
    assert done.counts == {"passed": 7, "error": 2}, done.text
    assert done.text.count("The test left a host running") >= 2
    assert "it was stopped now" in done.text
    assert "its event loop has ended" in done.text


def test_project_that_does_not_use_it_imports_nothing_of_the_host(project: Project) -> None:
    project.write("conftest.py", "")
    project.write(
        "test_it.py",
        """
        import sys

        def test_nothing():
            assert "base04.testing.pytest_plugin" in sys.modules
            heavy = {"pydantic", "starlette", "sqlalchemy", "pluggy._hooks", "httpx2", "uvicorn", "typer", "structlog"}
            ours = {"base04.app_manager", "base04.settings", "base04_hookspecs", "base04_builtin", "base04.blocking"}
            assert not (heavy - {"pluggy._hooks"} | ours) & sys.modules.keys()
        """,
    )
    done = project.run("-p", "no:schemathesis", "-p", "no:hypothesispytest", "-p", "no:anyio")
    assert (done.status, done.counts) == (0, {"passed": 1}), done.text


@pytest.mark.parametrize("more", [(), ("-p", "no:base04")])
def test_fixtures_of_actions_can_still_be_loaded_by_hand(project: Project, more: tuple[str, ...]) -> None:
    project.write("conftest.py", 'pytest_plugins = ["base04.testing.actions"]')
    project.write("test_it.py", "def test_host(actions):\n    assert actions.faults() == []\n")
    done = project.run(*more)
    assert (done.status, done.counts) == (0, {"passed": 1}), done.text


def test_plugin_can_be_left_out(project: Project) -> None:
    project.write("conftest.py", "")
    project.write("test_it.py", "def test_nothing(app_settings): ...\n")
    done = project.run("-p", "no:base04")
    assert done.counts == {"error": 1}, done.text
    assert "fixture 'app_settings' not found" in done.text


def test_fixtures_of_the_project_take_the_place_of_the_plugins(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import pytest

        @pytest.fixture
        def client():
            return "mine"

        def test_client(client):
            assert client == "mine"
        """,
    )
    done = project.run()
    assert (done.status, done.counts) == (0, {"passed": 1}), done.text


def test_fixtures_of_other_plugins_stay_theirs(project: Project, tmp_path: Path) -> None:
    project.write(
        "site/flasky.py",
        """
        import pytest

        @pytest.fixture
        def client():
            return "theirs"

        @pytest.fixture(name="clock")
        def some_clock():
            return "theirs too"
        """,
    )
    for name in ("a-flasky", "z-flasky"):  # whichever comes first
        info = f"site/{name.replace('-', '_')}-1.0.dist-info"
        project.write(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        project.write(f"{info}/entry_points.txt", f"[pytest11]\n{name} = flasky\n" if name[0] == "a" else "")
    project.write(
        "test_it.py",
        """
        async def test_both(client, clock, app, make_app):
            assert (client, clock) == ("theirs", "theirs too")
            assert app.is_initialized()

        def test_what_needs_theirs_is_left_out(admin_client): ...
        """,
    )
    done = project.run("-v", environ={"PYTHONPATH": str(tmp_path / "site")})
    assert done.counts == {"passed": 1, "error": 1}, done.text
    assert "fixture 'admin_client' not found" in done.text
    assert "base04: the fixtures clock, make_fake, " in done.text


def test_host_is_served_on_a_port(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import json
        import httpx2
        from websockets.asyncio.client import connect

        async def test_sockets_and_http(served, app):
            token = await app.jwt_manager.create_access_token("ada")
            async with connect(served.ws_url) as socket:
                await socket.send(json.dumps({"type": "auth", "token": token}))
                welcome = json.loads(await socket.recv())
                assert (welcome["type"], welcome["user_id"]) == ("auth_ok", "ada")
            async with httpx2.AsyncClient(base_url=served.url) as client:
                answer = await client.get("/who", headers={"authorization": f"Bearer {token}"})
                assert answer.json()["user_id"] == "ada"
        """,
    )
    done = project.run()
    assert (done.status, done.counts) == (0, {"passed": 1}), done.text


def test_servers_and_proxy(project: Project) -> None:
    project.write(
        "test_it.py",
        """
        import socket
        import pytest

        async def test_proxy(faulty_proxy, redis_server, make_app):
            proxy = await faulty_proxy(redis_server.address)
            url = f"redis://{proxy.host}:{proxy.port}/0"
            chosen = {"provider": "server", "server": {"url": url}}
            app = await make_app({"managers": {"redis": chosen}}, only=["redis"])
            redis = app.get_manager("redis")
            assert await redis.set("a", 1)
            proxy.half_open()
            await proxy.refuse()
            assert not await redis.ping()

        async def test_redis_is_empty(redis_url, make_app):
            app = await make_app(
                {"managers": {"redis": {"provider": "server", "server": {"url": redis_url}}}}, only=["redis"]
            )
            assert await app.get_manager("redis").get("a") is None

        async def test_postgres(postgres_database, make_app):
            provider = {"provider": "postgresql", "postgresql": {"url": postgres_database}}
            app = await make_app({"managers": {"database": provider}}, only=["database"])
            assert await app.get_manager("database").check_connection()

        def test_vault(vault_server):
            vault_server.put("app/database", {"password": "first"})
            assert vault_server.address.startswith("http://")

        def test_mongo(ferretdb_server):
            assert ferretdb_server.url.startswith("mongodb://")
        """,
    )
    done = project.run()
    assert done.status == 0, done.text
    assert done.counts == {"passed": 5}, done.text
