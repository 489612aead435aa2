"""The provider ``hashicorp`` when the vault seals itself, refuses, hangs, dies, or loses its answers."""

from __future__ import annotations

import asyncio
import json
import ssl
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from base04.testing.certificates import Certificate, ThrowawayCA
from base04.testing.conformance.vault import CANARY
from base04.testing.proxy import FaultyProxy
from base04.testing.servers.vault import Role, VaultServer
from base04_builtin.vault.hashicorp.manager import HashicorpVaultManager
from base04_hookspecs.errors import (
    ConfigurationError,
    ManagerUnavailable,
    NotFound,
    OutcomeUnknown,
    PermissionDenied,
)
from vault_kit import manager_at, settings, until


@pytest.fixture
def vault() -> Iterator[VaultServer]:
    with VaultServer() as server:
        yield server


def write_fallback(folder: Path, secrets: dict[str, dict[str, str]]) -> Path:
    path = folder / "fallback.json"
    path.write_text(json.dumps(secrets))
    path.chmod(0o600)
    return path


# Sealed, standing by, refusing


async def test_sealed_vault_is_unavailable_until_it_is_unsealed(vault: VaultServer) -> None:
    vault.put("app/x", {"key": "value"})
    async with manager_at(vault) as manager:
        vault.seal()
        for asked in (
            manager.get_secret_value("app/x", "key"),
            manager.set_secret_value("app/x", "key", "new"),
            manager.create_secret_value("app/x", "other", "new"),
            manager.delete_secret("app/x"),
            manager.list_secrets(),
            manager.watch_secret("app/x", lambda path: None),
        ):
            with pytest.raises(ManagerUnavailable, match="sealed"):
                await asked
        assert (await manager.health_check())["status"] == "unhealthy"
        assert (await manager.get_connection_info())["authenticated"] is False
        vault.unseal()
        assert await manager.get_secret_value("app/x", "key") == "value"
        assert (await manager.health_check())["status"] == "healthy"


@pytest.mark.parametrize(
    ("prepare", "status", "said"),
    [
        (lambda vault: vault.become("active"), "healthy", "active"),
        (lambda vault: vault.become("standby"), "healthy", "standby"),
        (lambda vault: vault.become("performance_standby"), "healthy", "performance standby"),
        (lambda vault: vault.become("disaster_recovery"), "unhealthy", "disaster recovery"),
        (lambda vault: vault.seal(), "unhealthy", "sealed"),
        (lambda vault: setattr(vault.model, "initialized", False), "unhealthy", "vault operator init"),
        (lambda vault: vault.kill(), "unhealthy", "cannot be reached"),
        (lambda vault: vault.model.tokens.clear(), "unhealthy", "does not accept the token"),
    ],
)
async def test_health_says_what_the_vault_says(
    vault: VaultServer, prepare: Callable[[VaultServer], None], status: str, said: str
) -> None:
    async with manager_at(vault) as manager:
        prepare(vault)
        report = await manager.health_check()
    assert (report["status"], report["metrics"]["stale"]) == (status, 0)
    assert said in report["details"]


async def test_refused_path_is_named_and_no_secret_is(vault: VaultServer) -> None:
    vault.put("app/private", {"key": CANARY})
    async with manager_at(vault) as manager:
        vault.deny("app/private")
        for asked in (
            manager.get_secret_value("app/private", "key"),
            manager.set_secret_value("app/private", "key", CANARY),
            manager.delete_secret("app/private"),
            manager.watch_secret("app/private", lambda path: None),
        ):
            with pytest.raises(PermissionDenied, match="app/private") as caught:
                await asked
            assert CANARY not in "".join(traceback.format_exception(caught.value))
            assert vault.root_token not in "".join(traceback.format_exception(caught.value))


async def test_cached_secret_is_not_returned_when_it_is_refused_by_now(vault: VaultServer) -> None:
    vault.put("app/private", {"key": "value"})
    async with manager_at(vault, cache_ttl="1ms") as manager:
        assert await manager.get_secret_value("app/private", "key") == "value"
        vault.deny("app/private")
        await asyncio.sleep(0.002)
        with pytest.raises(PermissionDenied):
            await manager.get_secret_value("app/private", "key")


# Tokens that end


async def test_token_is_renewed_before_its_end(vault: VaultServer) -> None:
    role_id, secret_id = vault.add_approle(Role(frozenset(), ttl=1.0, max_ttl=3600.0))
    async with manager_at(vault, approle={"role_id": role_id, "secret_id": secret_id}) as manager:
        assert await asyncio.to_thread(vault.wait_for, "POST", "auth/token/renew-self", 3)
        await manager.set_secret_value("app/x", "key", "value")
    assert vault.count("POST", "auth/approle/login") == 1


async def test_new_token_is_got_when_the_old_one_can_be_renewed_no_longer(vault: VaultServer) -> None:
    role_id, secret_id = vault.add_approle(Role(frozenset(), ttl=2.0, max_ttl=3.0))
    async with manager_at(vault, approle={"role_id": role_id, "secret_id": secret_id}) as manager:
        assert await asyncio.to_thread(vault.wait_for, "POST", "auth/approle/login", 2)
        await manager.set_secret_value("app/x", "key", "value")
    assert vault.count("POST", "auth/token/renew-self") >= 1


async def test_token_that_cannot_be_renewed_is_replaced_before_its_end(vault: VaultServer) -> None:
    role_id, secret_id = vault.add_approle(Role(frozenset(), ttl=1.0, renewable=False))
    async with manager_at(vault, approle={"role_id": role_id, "secret_id": secret_id}):
        assert await asyncio.to_thread(vault.wait_for, "POST", "auth/approle/login", 3)
    assert vault.count("POST", "auth/token/renew-self") == 0


async def test_expired_token_is_replaced_in_the_middle_of_traffic(vault: VaultServer) -> None:
    role_id, secret_id = vault.add_approle()
    async with manager_at(vault, approle={"role_id": role_id, "secret_id": secret_id}) as manager:
        vault.advance(7200)
        await asyncio.gather(*(manager.set_secret_value(f"app/{n}", "key", "value") for n in range(8)))
    assert vault.count("POST", "auth/approle/login") == 2, "those who are refused at once log in once"


async def test_expired_token_of_the_settings_is_an_error_that_says_what_to_do(vault: VaultServer) -> None:
    async with manager_at(vault, token=vault.issue(3600)) as manager:
        vault.advance(7200)
        with pytest.raises(PermissionDenied, match="put a new one into the settings"):
            await manager.get_secret_value("app/x", "key")
        assert (await manager.health_check())["status"] == "unhealthy"


async def test_login_is_tried_again_when_the_vault_comes_back(vault: VaultServer) -> None:
    role_id, secret_id = vault.add_approle(Role(frozenset(), ttl=1.0))
    async with manager_at(vault, approle={"role_id": role_id, "secret_id": secret_id}):
        vault.seal()
        vault.revoke_all()
        vault.advance(3600)
        before = vault.count("POST", "auth/approle/login")
        await until(lambda: vault.count("POST", "auth/approle/login") > before)
        vault.unseal()
        before = vault.count("POST", "auth/token/renew-self")
        assert await asyncio.to_thread(vault.wait_for, "POST", "auth/token/renew-self", before + 1)


# Killed, hanging, losing replies


async def test_service_comes_back_after_a_restart_and_nothing_acknowledged_is_lost(vault: VaultServer) -> None:
    async with manager_at(vault, cache_ttl="1ms") as manager:
        await manager.set_secret_value("app/x", "key", "kept")
        vault.kill()
        with pytest.raises(ManagerUnavailable, match="refused"):
            await manager.get_secret_value("app/x", "key")
        vault.start()
        assert await manager.get_secret_value("app/x", "key") == "kept"


async def test_restart_under_load_loses_no_acknowledged_write(vault: VaultServer) -> None:
    acknowledged: list[int] = []
    async with manager_at(vault, timeout="5s") as manager:

        async def write(number: int) -> None:
            try:
                await manager.set_secret_value("app/load", f"k{number}", str(number))
            except (ManagerUnavailable, OutcomeUnknown):
                return
            acknowledged.append(number)

        async def restart() -> None:
            await until(lambda: len(acknowledged) > 3)
            await asyncio.to_thread(vault.kill)
            await asyncio.to_thread(vault.start)

        await asyncio.gather(restart(), *(write(number) for number in range(40)))
        await manager.set_secret_value("app/load", "after", "x")
    stored = vault.get("app/load")
    assert {f"k{number}": str(number) for number in acknowledged}.items() <= stored.items()


async def test_nothing_hangs_past_its_timeout(vault: VaultServer) -> None:
    async with manager_at(vault, timeout="300ms") as manager:
        vault.hang()
        for asked in (
            manager.get_secret_value("app/x", "key"),
            manager.set_secret_value("app/x", "key", "value"),
            manager.delete_secret("app/x"),
            manager.list_secrets(),
            manager.watch_secret("app/x", lambda path: None),
        ):
            with pytest.raises(ManagerUnavailable):
                async with asyncio.timeout(20):
                    await asked
        assert (await manager.health_check())["status"] == "unhealthy"
        vault.wake()
        await until(lambda: manager._threads.busy == 0)
        assert await manager.set_secret_value("app/x", "key", "value") is True


async def test_start_fails_in_time_when_the_vault_hangs_or_is_not_there(vault: VaultServer) -> None:
    vault.hang()
    with pytest.raises(ManagerUnavailable):
        async with manager_at(vault, timeout="300ms"):
            pass
    vault.kill()
    with pytest.raises(ManagerUnavailable, match="refused"):
        async with manager_at(vault):
            pass


@asynccontextmanager
async def proxied_manager_at(
    vault: VaultServer, **given: Any
) -> AsyncIterator[tuple[FaultyProxy, HashicorpVaultManager]]:
    async with FaultyProxy(("127.0.0.1", vault.port)) as proxy:
        address = f"http://127.0.0.1:{proxy.port}"
        async with manager_at(vault, **{"address": address, **given}) as manager:
            yield proxy, manager


def is_write(request: bytes) -> bool:
    return request.startswith(b"POST /v1/secret/data/")


async def test_write_whose_reply_is_lost_is_found_out_and_done_once(vault: VaultServer) -> None:
    async with proxied_manager_at(vault) as (proxy, manager):
        proxy.swallow_replies(matching=is_write, times=1, cut=True)
        assert await manager.set_secret_value("app/x", "key", "value") is True
        proxy.swallow_replies(matching=is_write, times=1, cut=True)
        assert await manager.create_secret_value("app/x", "other", "thing") == "thing"
    assert len(vault.model.versions["app/x"]) == 2
    assert vault.get("app/x") == {"key": "value", "other": "thing"}


async def test_write_whose_reply_is_lost_though_somebody_wrote_after_it_is_done_once(vault: VaultServer) -> None:
    async with proxied_manager_at(vault) as (proxy, manager):
        proxy.swallow_replies(matching=is_write, times=1, cut=True)
        writing = asyncio.create_task(manager.set_secret_value("app/x", "key", "value"))
        await proxy.swallowed.wait()
        vault.put("app/x", {"key": "from somebody else"})
        assert await writing is True
    assert vault.get("app/x") == {"key": "from somebody else"}, "the later write stays the later one"


async def test_write_of_which_nothing_can_be_found_out_is_reported_as_that(vault: VaultServer) -> None:
    async with proxied_manager_at(vault, timeout="1s") as (proxy, manager):
        proxy.swallow_replies(matching=is_write, times=1, cut=True)
        writing = asyncio.create_task(manager.set_secret_value("app/x", "key", CANARY))
        await proxy.swallowed.wait()
        await proxy.refuse()
        with pytest.raises(OutcomeUnknown, match="may or may not") as caught:
            await writing
        assert CANARY not in repr(caught.value)


async def test_connections_cut_while_idle_are_made_anew(vault: VaultServer) -> None:
    vault.put("app/x", {"key": "value"})
    async with manager_at(vault) as manager:
        for _ in range(3):
            vault.cut()
            assert await manager.get_secret_value("app/x", "key") == "value"
            assert await manager.set_secret_value("app/x", "key", "value") is True


async def test_cancelled_calls_leave_the_manager_usable(vault: VaultServer) -> None:
    async with manager_at(vault) as manager:
        vault.hang()
        tasks = [asyncio.create_task(manager.set_secret_value("app/x", f"k{n}", "v")) for n in range(20)]
        assert await asyncio.to_thread(vault.wait_for, "GET", "secret/data/app/x", 1)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        vault.wake()
        assert await manager.set_secret_value("app/x", "after", "v") is True


async def test_watching_survives_an_outage(vault: VaultServer) -> None:
    vault.put("app/x", {"key": "old"})
    announced: asyncio.Queue[str] = asyncio.Queue()
    async with manager_at(vault) as manager:
        await manager.watch_secret("app/x", announced.put)
        with capture_logs() as entries:
            vault.kill()
            await until(lambda: any(entry["event"] == "a watched secret cannot be looked at" for entry in entries))
        vault.put("app/x", {"key": "new"})
        vault.start()
        assert await asyncio.wait_for(announced.get(), 30) == "app/x"
        assert await manager.get_secret_value("app/x", "key") == "new"


async def test_something_else_at_the_address_is_no_vault() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        with VaultServer() as vault:
            address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            manager = HashicorpVaultManager(settings(vault, address=address))
            with pytest.raises(ManagerUnavailable, match="does not speak as a vault does"):
                await manager.start()
            await manager.stop()


# The fallback file


async def test_fallback_is_read_while_the_vault_is_sealed_and_health_says_stale(
    vault: VaultServer, tmp_path: Path
) -> None:
    vault.put("app/x", {"key": "fresh"})
    path = write_fallback(tmp_path, {"app/x": {"key": "stale"}})
    async with manager_at(vault, cache_ttl="1ms", fallback={"path": str(path)}) as manager:
        assert await manager.get_secret_value("app/x", "key") == "fresh"
        vault.seal()
        await asyncio.sleep(0.002)
        assert await manager.get_secret_value("app/x", "key") == "stale"
        assert await manager.create_secret_value("app/x", "key", "new") == "stale"
        assert await manager.list_secrets("app/") == ["app/x"]
        report = await manager.health_check()
        assert (report["status"], report["metrics"]["stale"]) == ("degraded", 1)
        assert "stale" in report["details"]
        assert "sealed" in report["details"]
        vault.unseal()
        assert (await manager.health_check())["status"] == "healthy"
        assert await manager.get_secret_value("app/x", "key") == "fresh"
    assert json.loads(path.read_text()) == {"app/x": {"key": "stale"}}


async def test_fallback_lets_a_manager_start_without_its_vault(vault: VaultServer, tmp_path: Path) -> None:
    path = write_fallback(tmp_path, {"app/x": {"key": "stale"}})
    vault.put("app/x", {"key": "fresh"})
    vault.kill()
    announced: asyncio.Queue[str] = asyncio.Queue()
    async with manager_at(vault, fallback={"path": str(path)}) as manager:
        assert await manager.get_secret_value("app/x", "key") == "stale"
        assert await manager.watch_secret("app/x", announced.put) is True
        with pytest.raises(ManagerUnavailable, match="nothing at the path 'app/y'"):
            await manager.get_secret_value("app/y", "key")
        with pytest.raises(ManagerUnavailable):
            await manager.set_secret_value("app/x", "key", "new")
        with pytest.raises(ManagerUnavailable):
            await manager.create_secret_value("app/y", "key", "new")
        vault.start()
        assert await asyncio.wait_for(announced.get(), 30) == "app/x", "what was stale may differ"
        assert await manager.get_secret_value("app/x", "key") == "fresh"


async def test_fallback_is_not_read_when_the_vault_refuses(vault: VaultServer, tmp_path: Path) -> None:
    path = write_fallback(tmp_path, {"app/private": {"key": "stale"}})
    vault.put("app/private", {"key": "fresh"})
    async with manager_at(vault, fallback={"path": str(path)}) as manager:
        vault.deny("app/private")
        with pytest.raises(PermissionDenied):
            await manager.get_secret_value("app/private", "key")
        with pytest.raises(NotFound):
            await manager.get_secret_value("app/nothing", "key")
    with pytest.raises(PermissionDenied):
        async with manager_at(vault, token="wrong", fallback={"path": str(path)}):
            pass


async def test_fallback_file_that_others_can_read_or_that_is_not_there_is_refused(
    vault: VaultServer, tmp_path: Path
) -> None:
    path = write_fallback(tmp_path, {})
    path.chmod(0o644)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        async with manager_at(vault, fallback={"path": str(path)}):
            pass
    path.unlink()
    with pytest.raises(ConfigurationError, match="as fallback"):
        async with manager_at(vault, fallback={"path": str(path)}):
            pass


async def test_without_a_declared_fallback_there_is_none(vault: VaultServer, tmp_path: Path) -> None:
    write_fallback(tmp_path, {"app/x": {"key": "stale"}})
    vault.kill()
    with pytest.raises(ManagerUnavailable):
        async with manager_at(vault):
            pass


# TLS


def speaking_tls(certificate: Certificate) -> VaultServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    return VaultServer(tls=context)


async def test_tls_is_verified_against_the_authority_of_the_settings(tmp_path: Path) -> None:
    authority = ThrowawayCA(tmp_path)
    with speaking_tls(authority.issue("vault", "127.0.0.1")) as vault:
        async with manager_at(vault, ca=str(authority.ca)) as manager:
            assert await manager.set_secret_value("app/x", "key", "value") is True


@pytest.mark.parametrize("fault", ["authority", "name"])
async def test_vault_that_cannot_prove_who_it_is_gets_nothing(tmp_path: Path, fault: str) -> None:
    authority, stranger = ThrowawayCA(tmp_path / "right"), ThrowawayCA(tmp_path / "wrong")
    path = write_fallback(tmp_path, {"app/x": {"key": "stale"}})
    certificate = authority.issue("vault", "other.example" if fault == "name" else "127.0.0.1")
    trusted = authority.ca if fault == "name" else stranger.ca
    with speaking_tls(certificate) as vault:
        with pytest.raises(ConfigurationError, match=r"not trusted .*'ca'"):
            async with manager_at(vault, ca=str(trusted), fallback={"path": str(path)}):
                pass
        assert vault.requests == []


async def test_missing_file_of_the_authority_is_named(vault: VaultServer, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"missing\.pem"):
        async with manager_at(vault, address="https://127.0.0.1:1", ca=str(tmp_path / "missing.pem")):
            pass


# Secrets stay where they belong


async def test_canary_is_in_the_vault_and_nowhere_else(vault: VaultServer, tmp_path: Path) -> None:
    role_id, secret_id = vault.add_approle()
    approle = {"role_id": role_id, "secret_id": secret_id}
    errors: list[BaseException] = []
    with capture_logs() as entries:
        async with FaultyProxy(("127.0.0.1", vault.port)) as proxy:
            given = {"approle": approle, "address": f"http://127.0.0.1:{proxy.port}", "timeout": "1s"}
            async with manager_at(vault, **given) as manager:
                token = next(text for text in vault.model.tokens if text != vault.root_token)
                await manager.set_secret_value("app/x", "key", CANARY)
                await manager.get_secret_value("app/x", "key")
                shown = [repr(manager), repr(vars(manager)), await manager.health_check()]
                shown.append(await manager.get_connection_info())
                proxy.swallow_replies(matching=is_write, cut=True)
                writing = asyncio.create_task(manager.set_secret_value("app/x", "other", CANARY))
                await proxy.swallowed.wait()
                await proxy.refuse()
                errors.append(await failure(writing))
                errors.append(await failure(manager.set_secret_value("app/y", "key", CANARY)))
                shown.append(await manager.health_check())
                await proxy.pass_all()
                vault.deny("app/x")
                errors.append(await failure(manager.set_secret_value("app/x", "key", CANARY)))
                errors.append(await failure(manager.get_secret_value("app/z", "key")))
                vault.model.approles.clear()
                vault.revoke_all()
                errors.append(await failure(manager.set_secret_value("app/z", "key", CANARY)))
    told = repr(shown) + repr(entries)
    for error in errors:
        told += "".join(traceback.format_exception(error))
        link: BaseException | None = error
        while link is not None:
            told += repr(link) + repr(vars(link))
            link = link.__cause__ or link.__context__
    assert CANARY in json.dumps(vault.model.versions["app/x"][1].data)
    for secret in (CANARY, secret_id, token, vault.root_token):
        assert secret not in told


async def failure(asked: Any) -> BaseException:
    with pytest.raises(Exception) as caught:
        await asked
    return caught.value
