from __future__ import annotations

from pathlib import Path

import pytest

from base04.errors import SettingsError
from base04.settings_source import (
    SettingsDocument,
    merge,
    put_in_secrets,
    read_environment,
    read_settings_file,
    resolve_environment_references,
    secret_references,
)


def written(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "base04.yaml"
    file.write_text(text)
    return file


def test_file_keeps_the_place_of_every_key(tmp_path: Path) -> None:
    file = written(tmp_path, "server:\n  port: 8001\nplugins: {deny: [a, b]}\n")
    document = read_settings_file(file)
    assert document.values == {"server": {"port": 8001}, "plugins": {"deny": ["a", "b"]}}
    assert document.place(("server",)) == f"{file}:1:1"
    assert document.place(("server", "port")) == f"{file}:2:3"
    assert document.place(("plugins", "deny", 1)) == f"{file}:3:21"
    assert document.place(("server", "nothing", "deeper")) == f"{file}:1:1"
    assert document.below("server").place(("port",)) == f"{file}:2:3"


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "---\n"])
def test_file_without_settings_is_empty(tmp_path: Path, text: str) -> None:
    assert read_settings_file(written(tmp_path, text)).values == {}


@pytest.mark.parametrize(
    ("text", "place", "told"),
    [
        ("server: {port: 1}\nlog: {}\nserver: {port: 2}\n", "3:1", "'server' stands here a second time"),
        ("server:\n  port: 1\n  port: 2\n", "3:3", "'port' stands here a second time"),
        ("- a\n- b\n", "1:1", "must be a mapping"),
        ("just text", "1:1", "must be a mapping"),
        ("server:\n  port: [1\n", "3:1", "not valid YAML"),
        ("server:\n\tport: 1\n", "2:1", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "2:1", "not valid YAML"),
        ("server: {true: 1}\n", "1:10", "is not a string; write it in quotes"),
        ("log: {level: !secret hush-hush}\n", "1:14", "not valid YAML"),
        ("a: 2024-99-99\n", "1:4", "write it in quotes"),
        ("a: {b: !!int 'hush-hush'}\n", "1:8", "write it in quotes"),
        ("server: &s {again: *s}\n", "", "nested too deeply"),
        ("a: &a [*a, *a]\n", "", "nested too deeply"),
    ],
)
def test_file_that_cannot_be_used_is_an_error_with_its_place(tmp_path: Path, text: str, place: str, told: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(SettingsError, match=told) as refused:
        read_settings_file(file)
    assert str(refused.value).startswith(f"{file}:{place}")
    assert "hush-hush" not in str(refused.value)


def test_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "base04.yaml"
    file.write_bytes(b"server: \xff\xfe\n")
    with pytest.raises(SettingsError, match="cannot be read"):
        read_settings_file(file)
    file.write_bytes(b"server: \x00\n")
    with pytest.raises(SettingsError, match="not valid YAML"):
        read_settings_file(file)
    with pytest.raises(SettingsError, match="cannot be read"):
        read_settings_file(tmp_path / "missing.yaml")


@pytest.mark.parametrize("text", ["[" * 20_000, "{a: " * 20_000])
def test_file_nested_without_end_is_an_error(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"not valid YAML|nested too deeply"):
        read_settings_file(written(tmp_path, text))


def test_file_whose_aliases_multiply_is_an_error(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    with pytest.raises(SettingsError, match="too many"):
        read_settings_file(written(tmp_path, "\n".join(lines)))


def test_file_may_use_an_alias_twice(tmp_path: Path) -> None:
    document = read_settings_file(written(tmp_path, "a: &a {x: 1}\nb: *a\n"))
    assert document.values == {"a": {"x": 1}, "b": {"x": 1}}
    document.values["a"]["x"] = 2
    assert document.values["b"] == {"x": 1}


def test_environment_names_nested_keys_and_reads_lists_as_yaml() -> None:
    document = read_environment(
        {
            "BASE04_SERVER__PORT": "8001",
            "BASE04_MANAGERS__REDIS__SERVER__URL": "redis://h",
            "BASE04_PLUGINS__DENY": "[acme-*, 'b: c']",
            "BASE04_MANAGERS__REDIS__LABELS": "{a: 1}",
            "BASE04_TEST_VAULT_ADDR": "not a setting",
            "HOME": "/root",
        }
    )
    assert document.values == {
        "server": {"port": "8001"},
        "plugins": {"deny": ["acme-*", "b: c"]},
        "managers": {"redis": {"server": {"url": "redis://h"}, "labels": {"a": 1}}},
    }
    assert document.place(("managers", "redis", "server", "url")) == "BASE04_MANAGERS__REDIS__SERVER__URL"


@pytest.mark.parametrize("value", ["[hush-hush", "{hush-hush", "[2024-99-99]", "[!!int hush-hush]"])
def test_environment_list_that_is_no_yaml_is_an_error_without_the_value(value: str) -> None:
    with pytest.raises(SettingsError, match=r"BASE04_PLUGINS__DENY.*not valid YAML") as refused:
        read_environment({"BASE04_PLUGINS__DENY": value})
    assert "hush-hush" not in str(refused.value)


def test_environment_that_sets_a_key_and_what_is_below_it_is_an_error() -> None:
    with pytest.raises(SettingsError, match="server is set as a whole by another variable"):
        read_environment({"BASE04_SERVER": "x", "BASE04_SERVER__PORT": "1"})


def test_merge_lays_mappings_over_each_other_and_replaces_the_rest() -> None:
    base = SettingsDocument({"a": {"x": 1, "y": [1, 2]}, "b": 1}, {("a",): "f:1:1", ("a", "x"): "f:1:5"})
    over = SettingsDocument({"a": {"x": 2}, "c": {}}, {("a", "x"): "V"})
    merged = merge(base, over)
    assert merged.values == {"a": {"x": 2, "y": [1, 2]}, "b": 1, "c": {}}
    assert merged.place(("a", "x")) == "V"
    assert base.values["a"]["x"] == 1


def test_references_to_environment_and_files_are_put_in(tmp_path: Path) -> None:
    (tmp_path / "password").write_text("from file\n")
    values = {"a": "x${env:ONE}y${env:TWO}", "b": [{"c": f"${{file:{tmp_path / 'password'}}}"}], "d": "${secret:p#k}"}
    document = resolve_environment_references(SettingsDocument(values), {"ONE": "1", "TWO": "2"})
    assert document.values == {"a": "x1y2", "b": [{"c": "from file"}], "d": "${secret:p#k}"}


def test_references_that_lead_nowhere_are_all_reported_with_their_places(tmp_path: Path) -> None:
    values = {"a": "${env:MISSING}", "b": [f"${{file:{tmp_path / 'missing'}}}"], "c": f"${{file:{tmp_path}}}"}
    places = {("a",): "f:1:1", ("b",): "f:2:1", ("b", 0): "f:2:5", ("c",): "f:3:1"}
    with pytest.raises(SettingsError) as refused:
        resolve_environment_references(SettingsDocument(values, places), {})
    told = [str(fault) for fault in refused.value.faults]
    assert told[0] == "f:1:1: a: The environment variable 'MISSING' is not set."
    assert told[1].startswith(f"f:2:5: b.0: The file '{tmp_path / 'missing'}' cannot be read: No such file")
    assert "f:3:1: c:" in told[2]


@pytest.mark.parametrize("value", ["${evn:HOME}", "${secret:no-key}", "${secret:#k}", "${secret:p#}", "${env:}"])
def test_references_that_are_no_references_are_refused(value: str) -> None:
    with pytest.raises(SettingsError, match=r"f:1:1: a: .*\$\{secret:path#key\}"):
        resolve_environment_references(SettingsDocument({"a": f"x{value}"}, {("a",): "f:1:1"}), {})


def test_secret_references_are_found_and_put_in_at_every_depth() -> None:
    values = {"url": "redis://:${secret:app/redis#password}@h", "l": [{"x": "${secret:a#b}${secret:a#c}"}], "n": 1}
    assert sorted(set(secret_references(values))) == [("a", "b"), ("a", "c"), ("app/redis", "password")]
    secrets = {("app/redis", "password"): "p", ("a", "b"): "${secret:a#c}", ("a", "c"): "3"}
    document = put_in_secrets(SettingsDocument(values), secrets)
    assert document.values == {"url": "redis://:p@h", "l": [{"x": "${secret:a#c}3"}], "n": 1}
    assert document.hidden == {"p", "${secret:a#c}", "3"}
