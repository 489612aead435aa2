"""What `base04 doctor` finds, and what it does not say."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from base04.app_manager import AppManager
from base04.doctor import Finding, examine, requirements
from host_kit import Site, write_module

CANARY = "hunter2"


def examined(tmp_path: Path, text: str, *, mode: int = 0o600) -> list[Finding]:
    file = tmp_path / "base04.yaml"
    file.write_text(f"data_dir: {tmp_path / 'data'}\n{text}\n")
    file.chmod(mode)
    return examine(lambda: AppManager(file).blueprint, file)


def about(findings: list[Finding], subject: str) -> list[Finding]:
    return [finding for finding in findings if subject in finding.subject]


def test_embedded_default_is_well(tmp_path: Path) -> None:
    findings = examined(tmp_path, "")
    assert {finding.level for finding in findings} == {"ok"}
    assert not (tmp_path / "data").exists(), "nothing was started"


def test_mistakes_in_settings_are_told_with_their_places(tmp_path: Path) -> None:
    findings = examined(tmp_path, "server: {prot: 80}")
    assert findings[0].level == "error"
    assert "base04.yaml:2" in findings[0].message
    [cycle] = about(examined(tmp_path, "managers: {vault: {provider: none}}"), "managers")
    assert (cycle.level, "vault" in cycle.message) == ("error", True)


def test_missing_extra_is_told_with_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path, monkeypatch)
    site.install(
        "doctor-extra",
        plugins={"doctor-extra": "doctor_extra"},
        modules={
            "doctor_extra": """
            from base04_hookspecs import Provider, hookimpl

            @hookimpl
            def services_providers():
                yield Provider("far", "no_such_library_x.there:Services", extra="far")
            """
        },
        requires=["no-such-distribution-x>=3", "pluggy<1"],
    )
    findings = examined(tmp_path, "")
    assert any("doctor-extra[far]" in finding.message for finding in findings if finding.level == "error")
    told = [finding.message for finding in about(findings, "doctor-extra")]
    assert any("no-such-distribution-x>=3, which is not installed" in message for message in told)
    assert any("pluggy<1, and pluggy" in message for message in told)


def test_failed_plugin_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path, monkeypatch)
    site.install("doctor-broken", plugins={"doctor-broken": "doctor_broken"}, modules={"doctor_broken": "1 / 0"})
    [finding] = about(examined(tmp_path, ""), "doctor-broken")
    assert (finding.level, "ZeroDivisionError" in finding.message) == ("error", True)


def test_servers_are_looked_for(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as there:
        port = there.getsockname()[1]
        text = f"managers: {{redis: {{provider: server, server: {{url: 'redis://127.0.0.1:{port}/0'}}}}}}"
        [finding] = about(examined(tmp_path, text), "redis")
        assert (finding.level, finding.message) == ("ok", f"127.0.0.1:{port} can be reached.")
    [finding] = about(examined(tmp_path, text), "redis")
    assert (finding.level, f"127.0.0.1:{port} cannot be reached" in finding.message) == ("error", True)


def test_unused_settings_are_told(tmp_path: Path) -> None:
    text = """
managers:
  redis: {memory: {}, server: {url: redis://cache/0}}
  websocket: {provider: none, native: {}}
"""
    findings = examined(tmp_path, text)
    assert [finding.level for finding in about(findings, "managers.redis.server")] == ["warning"]
    [finding] = about(findings, "managers.websocket")
    assert "native has no effect" in finding.message
    assert not about(findings, "managers.redis.memory")


def test_secrets_that_lie_open_or_are_weak_are_told_and_not_shown(tmp_path: Path) -> None:
    text = f"managers: {{database: {{provider: postgresql, postgresql: {{url: 'postgresql://a:{CANARY}@127.0.0.1:1/b'}}}}}}"
    findings = examined(tmp_path, text, mode=0o666)
    messages = [finding.message for finding in findings if finding.level != "ok"]
    assert any("stands in the settings themselves" in message for message in messages)
    assert any("7 characters, and can be guessed" in message for message in messages)
    assert any("others can read it: chmod 600" in message for message in messages)
    assert any("Others can write it (mode 0666)" in message for message in messages)
    assert CANARY not in repr(findings)


def test_secret_that_comes_from_elsewhere_is_none_of_the_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCTOR_PASSWORD", "a-long-enough-password")
    server = "managers: {redis: {provider: server, server: {url: 'redis://127.0.0.1:1/0', password: '%s'}}}"
    text = server % "${env:DOCTOR_PASSWORD}"
    assert not [finding for finding in examined(tmp_path, text) if finding.level == "warning"]
    [finding] = about(examined(tmp_path, server % "${secret:a#b}"), "redis")
    assert "only when it starts" in finding.message


async def test_files_that_others_can_open_are_told(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"data_dir": str(tmp_path / "data")}
    async with AppManager(settings) as app:
        await app.jwt_manager.create_access_token("ada")
        assert not [finding for finding in examined(tmp_path, "") if finding.level != "ok"]
    secrets = next((tmp_path / "data").glob("*secrets*"))
    secrets.chmod(0o644)
    [finding] = about(examined(tmp_path, ""), secrets.name)
    assert (finding.level, "chmod 600" in finding.message) == ("error", True)


def test_requirements_pin_what_takes_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(tmp_path, monkeypatch)
    source = "from base04_hookspecs import hookimpl\n\n@hookimpl\ndef routes():\n    return []\n"
    site.install("doctor-used", version="2.1", plugins={"doctor-used": "doctor_used"}, modules={"doctor_used": source})
    site.install("doctor-left", plugins={"doctor-left": "doctor_left"}, modules={"doctor_left": source})
    site.install("doctor-pack", version="0.3", actions={"doctor-pack": "doctor_pack"})
    app = AppManager({"data_dir": str(tmp_path / "data"), "plugins": {"deny": ["doctor-left"]}})
    lines = requirements(app.blueprint)
    assert {"doctor-used==2.1", "doctor-pack==0.3"} <= set(lines)
    assert not [line for line in lines if "doctor-left" in line]
    assert lines == sorted(lines)
    assert any(line.startswith("base04==") for line in lines)


def test_telemetry_that_cannot_be_sent_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not about(examined(tmp_path, "telemetry: {sample_ratio: 0.5}"), "telemetry")
    with socket.create_server(("127.0.0.1", 0)) as collector:
        port = collector.getsockname()[1]
        [there] = about(examined(tmp_path, f"telemetry: {{endpoint: 'http://127.0.0.1:{port}'}}"), "telemetry")
        assert (there.level, there.message) == ("ok", f"127.0.0.1:{port} can be reached.")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}/otlp")
        [by_variable] = about(examined(tmp_path, "telemetry: {enabled: true}"), "telemetry")
        assert by_variable == there
    [away] = about(examined(tmp_path, f"telemetry: {{endpoint: 'http://127.0.0.1:{port}'}}"), "telemetry")
    assert (away.level, "cannot be reached" in away.message) == ("error", True)
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert not about(examined(tmp_path, "telemetry: {enabled: true}"), "telemetry")


def test_telemetry_without_its_libraries_is_told_with_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk", None)
    findings = about(examined(tmp_path, "telemetry: {endpoint: 'http://127.0.0.1:9'}"), "telemetry")
    assert any(item.level == "error" and "pip install 'base04[otel]'" in item.message for item in findings)


def test_header_of_telemetry_that_lies_open_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "telemetry: {{enabled: false, headers: {{authorization: '{}'}}}}"
    [finding] = about(examined(tmp_path, text.format(f"Bearer {CANARY}")), "telemetry")
    assert (finding.level, finding.subject) == ("warning", "telemetry.headers.authorization")
    assert CANARY not in finding.message
    monkeypatch.setenv("COLLECTOR_KEY", CANARY)
    assert not about(examined(tmp_path, text.format("${env:COLLECTOR_KEY}")), "telemetry")


def test_parts_of_plugins_that_fail_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    source = """
    from base04_hookspecs import hookimpl
    from base04_hookspecs.errors import NotReady

    async def after(call, outcome, colour):
        pass

    @hookimpl
    def routes():
        raise NotReady("no map yet")

    @hookimpl
    def cli_commands():
        1 / 0

    @hookimpl
    def action_packs():
        {}["pack"]

    @hookimpl
    def after_action():
        return [after]
    """
    write_module(folder, "doctor_parts", source)
    found = about(examined(tmp_path, f"plugins: {{paths: ['{folder}']}}"), "doctor_parts")
    told = {(finding.level, finding.message.partition(":")[0]) for finding in found}
    assert told == {
        ("warning", "Its hook routes is not ready"),
        ("error", "hook cli_commands failed"),
        ("error", "hook action_packs failed"),
        ("error", "after_action after failed"),
    }
    assert any("asks for 'colour'" in finding.message for finding in found)


def test_names_of_no_plugin_are_told(tmp_path: Path) -> None:
    found = examined(tmp_path, "plugins: {allow: [base04, acme-none], deny: ['acme-*', 'builtin-no*']}")
    assert [(finding.level, finding.message) for finding in about(found, "plugins.")] == [
        ("warning", "'acme-none' is the name of no plugin that is installed."),
        ("warning", "'acme-*' is the name of no plugin that is installed."),
        ("warning", "'builtin-no*' is the name of no plugin that is installed."),
    ]


def test_secrets_are_told_where_managers_cannot_be_resolved(tmp_path: Path) -> None:
    text = f"managers: {{vault: {{provider: none}}, redis: {{server: {{url: 'redis://:{CANARY}@127.0.0.1:1/0'}}}}}}"
    found = examined(tmp_path, text)
    assert about(found, "managers")[0].level == "error"
    assert about(found, "managers.redis.server.url")
    assert CANARY not in repr(found)
