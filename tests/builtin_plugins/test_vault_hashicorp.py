"""The provider ``hashicorp`` of the role ``vault``: what it does when nothing goes wrong.

Everything that needs no hand on the vault also runs against a real one, where BASE04_TEST_VAULT_ADDR and
BASE04_TEST_VAULT_TOKEN name one; in a KV mount of its own, so the token must be allowed to make one.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hvac import Client
from pydantic import ValidationError

from base04.testing.conformance.vault import CANARY, Another, VaultConformance
from base04.testing.servers.vault import Role, VaultServer
from base04_builtin.vault import vault_providers
from base04_builtin.vault.hashicorp.settings import HashicorpVaultSettings
from base04_hookspecs.errors import ConfigurationError, InvalidInput, NotFound, PermissionDenied
from base04_hookspecs.vault import VaultManager
from vault_kit import REAL_ADDRESS, REAL_TOKEN, manager_at, manager_of, settings

PROVIDER = next(provider for provider in vault_providers() if provider.name == "hashicorp")


@pytest.fixture
def vault() -> Iterator[VaultServer]:
    with VaultServer() as server:
        yield server


@pytest.fixture
def some_vault() -> Iterator[HashicorpVaultSettings]:
    """Settings for the real vault, if there is one, else for the stand-in."""
    if not REAL_ADDRESS:
        with VaultServer() as server:
            yield settings(server)
        return
    client = Client(REAL_ADDRESS, REAL_TOKEN)
    mount = f"base04-test-{uuid.uuid4().hex[:12]}"
    client.sys.enable_secrets_engine("kv", mount, options={"version": "2"})
    try:
        given = {"address": REAL_ADDRESS, "token": REAL_TOKEN, "mount": mount, "plain_http": True}
        yield HashicorpVaultSettings.model_validate({**given, "watch_interval": "50ms"})
    finally:
        client.sys.disable_secrets_engine(mount)  # type: ignore[no-untyped-call]  # so in its stubs


class TestHashicorpVaultConformance(VaultConformance):
    capabilities = PROVIDER.capabilities

    @pytest.fixture
    async def manager(self, some_vault: HashicorpVaultSettings) -> AsyncIterator[VaultManager]:
        async with manager_of(some_vault) as manager:
            yield manager

    @pytest.fixture
    def another(self, some_vault: HashicorpVaultSettings) -> Another:
        return lambda: manager_of(some_vault)


def test_provider_names_its_extra_and_is_no_default() -> None:
    assert (PROVIDER.extra, PROVIDER.default) == ("vault", False)
    assert PROVIDER.capabilities == {"watch", "versions", "shared"}


async def test_old_versions_are_kept(vault: VaultServer) -> None:
    async with manager_at(vault) as manager:
        await manager.set_secret_value("app/x", "key", "first")
        await manager.set_secret_value("app/x", "key", "second")
        await manager.delete_secret("app/x")
    kept = {number: version.data for number, version in vault.model.versions["app/x"].items()}
    assert kept == {1: {"key": "first"}, 2: {"key": "second"}}


async def test_two_managers_that_create_at_once_get_one_secret(some_vault: HashicorpVaultSettings) -> None:
    async with manager_of(some_vault) as one, manager_of(some_vault) as other:
        got = await asyncio.gather(
            *(each.create_secret_value("app/race", f"k{n}", f"{id(each)}") for each in (one, other) for n in range(5))
        )
    assert got[:5] == got[5:]


async def test_two_managers_that_write_one_path_lose_nothing(some_vault: HashicorpVaultSettings) -> None:
    async with manager_of(some_vault) as one, manager_of(some_vault) as other:
        await asyncio.gather(
            *(each.set_secret_value("app/many", f"{n}-{id(each)}", "x") for each in (one, other) for n in range(6))
        )
        keys = [f"{n}-{id(each)}" for each in (one, other) for n in range(6)]
        async with manager_of(some_vault) as reader:
            assert [await reader.get_secret_value("app/many", key) for key in keys] == ["x"] * 12


PROCESS = """
import asyncio, os, sys
from base04_builtin.vault.hashicorp import HashicorpVaultManager
from base04_builtin.vault.hashicorp.settings import HashicorpVaultSettings

async def main() -> None:
    address, mount = sys.argv[1:]
    token = sys.stdin.readline().strip()
    vault = HashicorpVaultManager(
        HashicorpVaultSettings(address=address, mount=mount, token=token, plain_http=True)
    )
    await vault.start()
    print("ready", flush=True)
    sys.stdin.readline()
    print(await vault.create_secret_value("base04/jwt", "key", f"from-{os.getpid()}"))
    for number in range(5):
        await vault.set_secret_value("base04/many", f"{os.getpid()}-{number}", "x")
    await vault.stop()

asyncio.run(main())
"""


async def test_processes_that_invent_a_key_get_one(some_vault: HashicorpVaultSettings) -> None:
    assert some_vault.token is not None

    def start() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", PROCESS, some_vault.address, some_vault.mount]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def tell(process: subprocess.Popen[str], line: str) -> None:
        assert process.stdin is not None
        process.stdin.write(line + "\n")
        process.stdin.flush()

    def race() -> list[str]:
        processes = [start() for _ in range(3)]
        for process in processes:
            tell(process, some_vault.token.get_secret_value() if some_vault.token else "")
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            tell(process, "go")
        printed = [process.communicate(timeout=120)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0, 0]
        return printed

    printed = await asyncio.to_thread(race)
    assert len(set(printed)) == 1
    async with manager_of(some_vault) as manager:
        assert await manager.get_secret_value("base04/jwt", "key") == printed[0].strip()


async def test_what_others_stored_as_numbers_is_returned_as_text_and_kept(vault: VaultServer) -> None:
    vault.put("app/database", {"port": 5432, "tls": True, "hosts": ["a", "b"], "none": None})
    async with manager_at(vault) as manager:
        assert await manager.get_secret_value("app/database", "port") == "5432"
        assert await manager.get_secret_value("app/database", "tls") == "true"
        assert await manager.get_secret_value("app/database", "hosts") == '["a", "b"]'
        with pytest.raises(NotFound):
            await manager.get_secret_value("app/database", "none")
        await manager.set_secret_value("app/database", "user", "ada")
    assert vault.get("app/database") == {"port": 5432, "tls": True, "hosts": ["a", "b"], "none": None, "user": "ada"}


async def test_secret_is_read_once_within_the_ttl_of_the_cache(vault: VaultServer) -> None:
    vault.put("app/x", {"key": "value", "other": "thing"})
    async with manager_at(vault) as manager:
        await asyncio.gather(*(manager.get_secret_value("app/x", "key") for _ in range(20)))
        await manager.get_secret_value("app/x", "other")
    assert vault.count("GET", "secret/data/app/x") == 1


async def test_cache_ends(vault: VaultServer) -> None:
    vault.put("app/x", {"key": "old"})
    async with manager_at(vault, cache_ttl="1ms") as manager:
        assert await manager.get_secret_value("app/x", "key") == "old"
        vault.put("app/x", {"key": "new"})
        await asyncio.sleep(0.002)
        assert await manager.get_secret_value("app/x", "key") == "new"


async def test_rotation_by_somebody_else_is_announced_and_seen_past_the_cache(vault: VaultServer) -> None:
    vault.put("app/x", {"key": "old"})
    announced: asyncio.Queue[str] = asyncio.Queue()
    async with manager_at(vault, cache_ttl="1h") as manager:
        assert await manager.get_secret_value("app/x", "key") == "old"
        await manager.watch_secret("app/x", announced.put)
        vault.put("app/x", {"key": "new"})
        assert await asyncio.wait_for(announced.get(), 30) == "app/x"
        assert await manager.get_secret_value("app/x", "key") == "new"
    assert "vault-watch" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_rotation_is_noticed_without_the_right_to_read_metadata(vault: VaultServer) -> None:
    vault.put("app/x", {"key": "old"})
    vault.deny("app/x", kinds=("metadata",))
    announced: asyncio.Queue[str] = asyncio.Queue()
    async with manager_at(vault) as manager:
        await manager.watch_secret("app/x", announced.put)
        vault.put("app/x", {"key": "new"})
        assert await asyncio.wait_for(announced.get(), 30) == "app/x"
        assert await manager.list_secrets("app/") == ["app/x"]
    assert vault.count("GET", "secret/metadata/app/x") == 1


async def test_who_begins_to_watch_reads_past_the_cache(vault: VaultServer) -> None:
    vault.put("app/x", {"key": "old"})
    async with manager_at(vault, cache_ttl="1h") as manager:
        assert await manager.get_secret_value("app/x", "key") == "old"
        vault.put("app/x", {"key": "new"})
        await manager.watch_secret("app/x", lambda path: None)
        assert await manager.get_secret_value("app/x", "key") == "new"


async def test_path_that_would_lead_elsewhere_is_refused(vault: VaultServer) -> None:
    async with manager_at(vault) as manager:
        for path in ("../sys/seal", "app/../../sys/health", "app/.", ".."):
            with pytest.raises(InvalidInput):
                await manager.get_secret_value(path, "key")
            with pytest.raises(InvalidInput):
                await manager.delete_secret(path)
            assert await manager.list_secrets(f"{path}/") == []
    assert {request.path.partition("/")[0] for request in vault.requests} <= {"auth", "sys", "secret"}
    assert not vault.count("GET", "sys/health")


@pytest.mark.parametrize("path", ["app/a?version=1", "app/ünï", "app/100%", "app/a&list=true", "app/%2e%2e"])
async def test_odd_but_usable_paths_stay_what_they_are(some_vault: HashicorpVaultSettings, path: str) -> None:
    async with manager_of(some_vault) as manager:
        await manager.set_secret_value(path, "key", "value")
        assert await manager.get_secret_value(path, "key") == "value"
        assert await manager.list_secrets("app/") == [path]


async def test_deleted_paths_are_not_listed_and_can_be_created_again(some_vault: HashicorpVaultSettings) -> None:
    async with manager_of(some_vault) as manager:
        await manager.set_secret_value("app/gone", "key", "old")
        await manager.set_secret_value("app/here", "key", "value")
        await manager.delete_secret("app/gone")
        assert await manager.list_secrets("app/") == ["app/here"]
        assert await manager.create_secret_value("app/gone", "key", "new") == "new"
        assert await manager.list_secrets() == ["app/gone", "app/here"]


# Logging in


async def test_approle_logs_in_and_gives_its_token_back(vault: VaultServer) -> None:
    role_id, secret_id = vault.add_approle()
    async with manager_at(vault, approle={"role_id": role_id, "secret_id": secret_id}) as manager:
        await manager.set_secret_value("app/x", "key", "value")
        info = await manager.get_connection_info()
        assert (info["authentication"], info["authenticated"]) == ("approle", True)
        assert len(vault.model.tokens) == 2
    assert list(vault.model.tokens) == [vault.root_token]


async def test_secret_id_is_read_from_its_file_at_each_login(vault: VaultServer, tmp_path: Path) -> None:
    role_id, first = vault.add_approle()
    file = tmp_path / "secret-id"
    file.write_text(f"{first}\n")
    async with manager_at(vault, approle={"role_id": role_id, "secret_id_file": str(file)}) as manager:
        vault.model.approles[role_id] = Role(frozenset({"second"}))
        vault.revoke_all()
        with pytest.raises(PermissionDenied, match="secret id"):
            await manager.set_secret_value("app/x", "key", "value")
        file.write_text("second")
        assert await manager.set_secret_value("app/x", "key", "value") is True


async def test_kubernetes_token_is_read_anew_at_each_login(vault: VaultServer, tmp_path: Path) -> None:
    vault.add_kubernetes_role("base04", "first.service.account")
    file = tmp_path / "token"
    file.write_text("first.service.account")
    async with manager_at(vault, kubernetes={"role": "base04", "token_file": str(file)}) as manager:
        await manager.set_secret_value("app/x", "key", "value")
        vault.add_kubernetes_role("base04", "second.service.account")
        vault.revoke_all()
        file.write_text("second.service.account")
        await manager.set_secret_value("app/x", "key", "other")
        assert (await manager.get_connection_info())["authentication"] == "kubernetes"
    sent = [request.body["jwt"] for request in vault.requests if request.path == "auth/kubernetes/login"]
    assert sent == ["first.service.account", "second.service.account"]


async def test_token_is_read_from_its_file(vault: VaultServer, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(vault.issue(3600))
    async with manager_at(vault, token_file=str(file)) as manager:
        await manager.set_secret_value("app/x", "key", "value")
        vault.revoke_all()
        file.write_text(vault.issue(3600))
        await manager.set_secret_value("app/x", "key", "other")
    assert len(vault.model.tokens) == 2, "a token that somebody else keeps is not revoked"


async def test_environment_and_home_are_left_alone(
    vault: VaultServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".vault-token").write_text(vault.root_token)
    (tmp_path / ".netrc").write_text("default login canary password canary\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("VAULT_TOKEN", vault.root_token)
    monkeypatch.setenv("VAULT_ADDR", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with pytest.raises(PermissionDenied, match="does not accept the token"):
        async with manager_at(vault, token="of-the-settings"):
            pass
    with pytest.raises(ValidationError, match="exactly one of"):
        HashicorpVaultSettings.model_validate({"address": vault.address})
    assert {request.token for request in vault.requests} == {"of-the-settings"}


async def test_namespace_is_sent_with_everything_but_health(vault: VaultServer) -> None:
    role_id, secret_id = vault.add_approle()
    given = {"approle": {"role_id": role_id, "secret_id": secret_id}, "namespace": "team/base04"}
    async with manager_at(vault, **given) as manager:
        await manager.set_secret_value("app/x", "key", "value")
        await manager.health_check()
    sent = {(request.path == "sys/health", request.namespace) for request in vault.requests}
    assert sent == {(True, None), (False, "team/base04")}


@pytest.mark.parametrize("way", ["approle", "token", "kubernetes"])
async def test_wrong_credentials_are_refused_and_not_shown(vault: VaultServer, way: str, tmp_path: Path) -> None:
    (tmp_path / "jwt").write_text(CANARY)
    given = {
        "approle": {"role_id": "nobody", "secret_id": CANARY},
        "token": CANARY,
        "kubernetes": {"role": "nobody", "token_file": str(tmp_path / "jwt")},
    }
    with pytest.raises(PermissionDenied) as caught:
        async with manager_at(vault, **{way: given[way]}):
            pass
    assert CANARY not in repr(caught.value)


async def test_missing_credential_file_is_named(vault: VaultServer, tmp_path: Path) -> None:
    missing = tmp_path / "not-mounted"
    with pytest.raises(ConfigurationError, match=str(missing)):
        async with manager_at(vault, kubernetes={"role": "base04", "token_file": str(missing)}):
            pass


# Settings


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"address": "vault.example.com:8200"}, "https://vault.example.com:8200"),
        ({"address": "http://vault.example.com:8200"}, "plain_http"),
        ({"address": "https://user:secret@vault.example.com"}, "no user"),
        ({"mount": "../sys"}, "mount"),
        ({"mount": ""}, "mount"),
        ({"token_file": "/x"}, "exactly one of"),
        ({"client_key": "/x"}, "belong together"),
        ({"namespace": "a b"}, "namespace"),
        ({"verify": False}, "verify"),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(ValidationError, match=said) as caught:
        HashicorpVaultSettings.model_validate({"address": "https://vault", "token": CANARY, **given})
    assert CANARY not in str(caught.value)


def test_settings_do_not_show_credentials() -> None:
    shown = [
        HashicorpVaultSettings.model_validate({"address": "https://vault", "token": CANARY}),
        HashicorpVaultSettings.model_validate(
            {"address": "https://vault", "approle": {"role_id": "x", "secret_id": CANARY}}
        ),
    ]
    assert CANARY not in repr(shown) + str(shown)


async def test_mount_of_version_1_is_refused_with_the_remedy(vault: VaultServer) -> None:
    vault.model.kv_version = "1"
    with pytest.raises(ConfigurationError, match="vault kv enable-versioning secret"):
        async with manager_at(vault):
            pass
