from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel

from base04.discovery import discover
from base04.errors import SettingsError
from base04.provider_settings import check_all, provider_settings
from base04.resolution import Plan, resolve
from base04.selection import InstanceKey, select
from base04.settings import load_settings
from base04_hookspecs.settings import DataPath
from host_kit import Plain, offering, only


class LampSettings(BaseModel):
    colour: str = "white"
    watts: int = 5
    path: DataPath = Path("lamp.json")


class Lamp(Plain):
    role = "lamp"

    def __init__(self, settings: LampSettings) -> None: ...


class Bell(Plain):
    role = "bell"


def planned(tmp_path: Path, environ: dict[str, str] | None = None, **managers: Any) -> tuple[Path, Plan]:
    file = tmp_path / "base04.yaml"
    file.write_text(yaml.safe_dump(only(tmp_path, **managers), sort_keys=False))
    settings = load_settings(file, environ=environ or {})
    discovery = discover(settings.plugins, extra_plugins=[("lights", offering(Lamp, Bell))])
    return file, resolve(select(discovery, settings), settings)


def read(plan: Plan, data_dir: Path, key: str = "default") -> LampSettings:
    node = plan.nodes[InstanceKey("lamp", key)]
    settings = provider_settings(node, node.document, data_dir)
    assert isinstance(settings, LampSettings)
    return settings


def test_provider_reads_what_all_read_and_its_own_part_over_it(tmp_path: Path) -> None:
    lamp = {"colour": "red", "watts": 1, "own": {"watts": 9}, "required": False, "start_timeout": "1s"}
    _, plan = planned(tmp_path, lamp=lamp)
    settings = read(plan, tmp_path)
    assert (settings.colour, settings.watts) == ("red", 9)
    check_all(plan, tmp_path)


def test_provider_paths_lie_in_the_data_folder(tmp_path: Path) -> None:
    _, plan = planned(tmp_path, lamp={"path": "sub/x"})
    assert read(plan, tmp_path / "data").path == tmp_path / "data" / "sub" / "x"


def test_provider_of_a_named_instance_reads_what_is_written_there(tmp_path: Path) -> None:
    instances = {"hall": {"colour": "blue", "own": {"watts": 2}}, "attic": {"instances": {}}}
    file, plan = planned(tmp_path, lamp={"colour": "red", "instances": instances})
    assert (read(plan, tmp_path, "hall").colour, read(plan, tmp_path, "hall").watts) == ("blue", 2)
    with pytest.raises(SettingsError, match=r"managers\.lamp\.instances\.attic\.instances: There is no such key") as no:
        check_all(plan, tmp_path)
    assert str(no.value).startswith(f"{file}:")


@pytest.mark.parametrize(
    ("lamp", "told"),
    [
        ({"color": "red"}, "managers.lamp.color: There is no such key; did you mean 'colour'?"),
        ({"own": {"wats": 1}}, "managers.lamp.own.wats: There is no such key; did you mean 'watts'?"),
        ({"provder": "own"}, "managers.lamp.provder: There is no such key; did you mean 'provider'?"),
        ({"start_timout": "1s"}, "managers.lamp.start_timout: There is no such key; did you mean 'start_timeout'?"),
        ({"own": {"watts": "hush-hush"}}, "managers.lamp.own.watts: Input should be a valid integer"),
        ({"instances": {"hall": {"own": {"wats": 1}}}}, "managers.lamp.instances.hall.own.wats: There is no such key"),
    ],
)
def test_provider_faults_have_key_nearest_key_and_place(tmp_path: Path, lamp: dict[str, Any], told: str) -> None:
    file, plan = planned(tmp_path, lamp=lamp)
    with pytest.raises(SettingsError) as refused:
        check_all(plan, tmp_path)
    [fault] = refused.value.faults
    assert str(fault).startswith(f"{file}:")
    assert f": {told}" in str(fault)
    wrong = told.split(":")[0].rpartition(".")[2]
    line, column = (int(part) for part in fault.place.removeprefix(f"{file}:").split(":"))
    assert file.read_text().splitlines()[line - 1][column - 1 :].startswith(wrong)


def test_provider_without_settings_refuses_every_key(tmp_path: Path) -> None:
    _, plan = planned(tmp_path, bell={"volume": 3, "requird": False, "own": {"tone": 1}})
    with pytest.raises(SettingsError) as refused:
        check_all(plan, tmp_path)
    told = sorted(str(fault).partition(": ")[2] for fault in refused.value.faults)
    assert told[0].startswith("managers.bell.own.tone: There is no such key")
    assert told[1].startswith("managers.bell.requird: There is no such key; did you mean 'required'?")
    assert told[2].startswith("managers.bell.volume: There is no such key; ")
    assert all(text.endswith("own of plugin lights (types:SimpleNamespace) reads no settings.") for text in told)


def test_provider_faults_of_all_managers_are_reported_together(tmp_path: Path) -> None:
    _, plan = planned(tmp_path, lamp={"own": {"watts": "many"}, "color": "red"}, bell={"volume": 3})
    with pytest.raises(SettingsError) as refused:
        check_all(plan, tmp_path)
    assert len(refused.value.faults) == 3


def test_provider_settings_of_the_environment(tmp_path: Path) -> None:
    environ = {"BASE04_MANAGERS__LAMP__OWN__WATTS": "12", "BASE04_MANAGERS__LAMP__COLOUR": "green"}
    _, plan = planned(tmp_path, environ)
    assert (read(plan, tmp_path).watts, read(plan, tmp_path).colour) == (12, "green")
    _, plan = planned(tmp_path, {"BASE04_MANAGERS__LAMP__OWN__WATTS": "hush-hush"})
    with pytest.raises(SettingsError, match=r"^BASE04_MANAGERS__LAMP__OWN__WATTS: managers\.lamp\.own\.watts: ") as no:
        check_all(plan, tmp_path)
    assert "hush-hush" not in str(no.value)


def test_provider_part_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"base04\.yaml:\d+:5: managers\.lamp\.own: This must be a mapping"):
        planned(tmp_path, lamp={"own": "bright"})
    assert planned(tmp_path, lamp={"own": None})


def test_provider_settings_with_secrets_wait_for_the_vault(tmp_path: Path) -> None:
    _, plan = planned(tmp_path, lamp={"watts": "${secret:lamp#watts}", "color": "red"}, vault={})
    check_all(plan, tmp_path)
    assert plan.nodes[InstanceKey("lamp")].secrets == (("lamp", "watts"),)
