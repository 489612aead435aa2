from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator

from base04.errors import SettingsError
from base04.settings import HostSettings, load_settings, validate
from base04.settings_source import SettingsDocument, read_settings_file


class Pool(BaseModel):
    size: int = 5
    labels: dict[str, str] = {}


class Node(BaseModel):
    model_config = ConfigDict(extra="forbid")

    host: str
    pool: Pool = Pool()


class ServerSettings(BaseModel):
    """A model that does not say what becomes of unknown keys, as most do not."""

    url: str = "redis://localhost"
    pool: Pool | None = None
    nodes: list[Node] = []
    by_name: dict[str, Pool] = {}
    password: str = Field("", alias="pass-word")
    user: Annotated[str, Field(validation_alias=AliasChoices("user", "user-name"))] = ""

    @field_validator("url")
    @classmethod
    def _has_a_scheme(cls, value: str) -> str:
        if "://" not in value:
            raise ValueError(f"{value!r} has no scheme")
        return value


def refused(tmp_path: Path, text: str, environ: dict[str, str] | None = None) -> tuple[Path, list[str]]:
    file = tmp_path / "base04.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as error:
        load_settings(file, environ=environ or {})
    return file, [str(fault) for fault in error.value.faults]


def faults_of(tmp_path: Path, text: str, model: type[BaseModel] = ServerSettings) -> tuple[Path, list[str]]:
    file = tmp_path / "provider.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as error:
        validate(model, read_settings_file(file), prefix=("managers", "redis"))
    return file, [str(fault) for fault in error.value.faults]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("sever: {}\n", ":1:1: sever: There is no such key; did you mean 'server'?"),
        ("server:\n  prot: 1\n", ":2:3: server.prot: There is no such key; did you mean 'port'?"),
        ("plugins:\n  auto_load: false\n", ":2:3: plugins.auto_load: There is no such key; did you mean 'autoload'?"),
        ("log: {levle: info}\n", ":1:7: log.levle: There is no such key; did you mean 'level'?"),
        ("log: {xyz: info}\n", ":1:7: log.xyz: There is no such key; there are format, level."),
    ],
)
def test_settings_typo_has_place_and_nearest_key(tmp_path: Path, text: str, told: str) -> None:
    file, faults = refused(tmp_path, text)
    assert faults == [f"{file}{told}"]


def test_settings_report_several_faults_at_once(tmp_path: Path) -> None:
    file, faults = refused(tmp_path, "server:\n  port: hush-hush\n  hots: x\nplugins: {allow: acme}\nlgo: {}\n")
    assert len(faults) == 4
    assert any(fault.startswith(f"{file}:2:3: server.port: ") for fault in faults)
    assert any(fault.startswith(f"{file}:3:3: server.hots: ") and "'host'" in fault for fault in faults)
    assert any(fault.startswith(f"{file}:4:11: plugins.allow: ") for fault in faults)
    assert any(fault.startswith(f"{file}:5:1: lgo: ") and "'log'" in fault for fault in faults)
    assert "hush-hush" not in "".join(faults)


@pytest.mark.parametrize(
    "text", ["server: 7\n", "server: [1]\n", "managers: {redis: memory}\n", "log: {level: loud}\n"]
)
def test_settings_of_a_wrong_type_are_refused_with_their_place(tmp_path: Path, text: str) -> None:
    file, faults = refused(tmp_path, text)
    assert len(faults) == 1
    assert faults[0].startswith(f"{file}:1:")


def test_settings_have_defaults_and_keep_what_was_written(tmp_path: Path) -> None:
    file = tmp_path / "base04.yaml"
    file.write_text("managers:\n  redis:\n    start_timeout: 500ms\n    server: {url: x}\n")
    settings = load_settings(file, environ={})
    assert (settings.server.port, settings.server.host) == (8000, "127.0.0.1")
    assert settings.role("redis").start_timeout == 0.5
    assert settings.role("vault").required
    assert settings.document.place(("managers", "redis", "server", "url")) == f"{file}:4:14"


def test_settings_without_a_source_read_the_file_of_the_present_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_settings(environ={}).server.port == 8000
    (tmp_path / "base04.yaml").write_text("server: {port: 8001}\n")
    assert load_settings(environ={}).server.port == 8001


def test_settings_environment_is_laid_over_the_file_and_overrides_over_both(tmp_path: Path) -> None:
    file = tmp_path / "base04.yaml"
    file.write_text("server: {port: 1, host: file}\nplugins: {deny: [a]}\n")
    environ = {"BASE04_SERVER__PORT": "2", "BASE04_SERVER__HOST": "environment", "BASE04_PLUGINS__DENY": "[b, c]"}
    settings = load_settings(file, environ=environ, overrides={"server": {"port": 3}})
    assert (settings.server.port, settings.server.host, settings.plugins.deny) == (3, "environment", ("b", "c"))
    assert load_settings({"server": {"port": 9}}, environ={}).server.port == 9


def test_settings_faults_of_the_environment_name_the_variable_and_never_show_it(tmp_path: Path) -> None:
    environ = {"BASE04_SERVER__DRAIN_TIMEOUT": "hush-hush", "BASE04_SERVER__PROT": "hush-hush"}
    _, faults = refused(tmp_path, "", environ)
    assert len(faults) == 2
    assert any(fault.startswith("BASE04_SERVER__DRAIN_TIMEOUT: server.drain_timeout: ") for fault in faults)
    assert any(fault.startswith("BASE04_SERVER__PROT: server.prot: ") and "'port'" in fault for fault in faults)
    assert "hush-hush" not in "".join(faults)


def test_settings_references_are_resolved_and_never_shown(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("hush-file")
    text = (
        f"server: {{host: '${{env:H}}', drain_timeout: '${{env:D}}', health_interval: '${{file:{tmp_path}/secret}}'}}"
    )
    _, faults = refused(tmp_path, text, {"H": "h", "D": "hush-env"})
    assert len(faults) == 2
    assert "hush" not in "".join(faults)


def test_settings_of_the_host_itself_cannot_come_from_the_vault(tmp_path: Path) -> None:
    file, faults = refused(
        tmp_path, "server:\n  trusted_proxies: ['${secret:a#b}']\nmanagers: {redis: {x: '${secret:a#b}'}}\n"
    )
    assert len(faults) == 1
    assert faults[0].startswith(f"{file}:2:")
    assert "use ${env:NAME} or ${file:path}" in faults[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("rul: x\n", ":1:1: managers.redis.rul: There is no such key; did you mean 'url'?"),
        ("pool:\n  sise: 1\n", ":2:3: managers.redis.pool.sise: There is no such key; did you mean 'size'?"),
        (
            "nodes:\n- {host: a, xyz1: 1}\n",
            ":2:13: managers.redis.nodes.0.xyz1: There is no such key; there are host, pool.",
        ),
        (
            "nodes:\n- {host: a, pool: {szie: 1}}\n",
            ":2:20: managers.redis.nodes.0.pool.szie: There is no such key; did you mean 'size'?",
        ),
        (
            "by_name:\n  one:\n    siez: 1\n",
            ":3:5: managers.redis.by_name.one.siez: There is no such key; did you mean 'size'?",
        ),
        ("pass-wort: x\n", ":1:1: managers.redis.pass-wort: There is no such key; did you mean 'pass-word'?"),
    ],
)
def test_settings_of_a_provider_are_checked_at_every_depth(tmp_path: Path, text: str, told: str) -> None:
    file, faults = faults_of(tmp_path, text)
    assert faults == [f"{file}{told}"]


def test_settings_of_a_provider_report_typos_and_wrong_types_together(tmp_path: Path) -> None:
    _, faults = faults_of(tmp_path, "rul: x\npool: {size: many, sise: 1}\nurl: hush-hush\n")
    assert len(faults) == 4


@pytest.mark.parametrize(
    "text",
    ["pass-word: x\nuser-name: y\n", "user: y\n", "pool: {labels: {any: thing}}\n", "pool: null\n", "by_name: {}\n"],
)
def test_settings_of_a_provider_may_use_aliases_and_free_keys(tmp_path: Path, text: str) -> None:
    file = tmp_path / "provider.yaml"
    file.write_text(text)
    assert isinstance(validate(ServerSettings, read_settings_file(file)), ServerSettings)


def test_settings_model_that_allows_extras_reads_everything() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")
        pool: Pool = Pool()

    settings: Any = validate(Open, SettingsDocument({"anything": 1, "pool": {}}))
    assert settings.anything == 1
    with pytest.raises(SettingsError, match=r"pool\.sise: There is no such key; did you mean 'size'\?"):
        validate(Open, SettingsDocument({"anything": 1, "pool": {"sise": 1}}))


def test_settings_that_are_missing_have_the_place_of_what_they_are_missing_from(tmp_path: Path) -> None:
    file, faults = faults_of(tmp_path, "nodes:\n- {}\n")
    assert faults == [f"{file}:2:3: managers.redis.nodes.0.host: Field required."]


def test_settings_hide_what_may_be_a_secret_in_a_message_of_a_validator() -> None:
    with pytest.raises(SettingsError, match="has no scheme") as error:
        validate(ServerSettings, SettingsDocument({"url": "hush-hush"}, hidden=frozenset({"hush-hush", ""})))
    assert "hush" not in str(error.value)


def test_settings_are_taken_as_they_are_when_they_are_loaded_already() -> None:
    settings = HostSettings()
    assert load_settings(settings, environ={"BASE04_SERVER__PORT": "1"}) is settings
