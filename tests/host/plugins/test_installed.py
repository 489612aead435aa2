"""Entry points of what is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from base04.plugins.installed import InstalledDistribution, InstalledPoints
from serve_kit import install


def test_points_come_with_what_the_metadata_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "inst-one", version="1.2", plugins={"inst-one": "inst_one:plugin"}, requires=["base04>=0.1", "x"])
    monkeypatch.syspath_prepend(tmp_path)
    (point,) = [item for item in InstalledPoints().of("base04.plugins") if item.name == "inst-one"]
    assert (point.value, point.module) == ("inst_one:plugin", "inst_one")
    assert point.distribution == InstalledDistribution("inst-one", "1.2", ("base04>=0.1", "x"))
    assert "inst-one" not in [item.name for item in InstalledPoints().of("base04.actions")]


def test_first_of_two_distributions_with_one_name_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder, version in (("later", "1.0"), ("first", "2.0")):
        install(tmp_path / folder, "inst-two", version=version, plugins={"inst-two": f"{folder}_two"})
        monkeypatch.syspath_prepend(tmp_path / folder)
    (point,) = [item for item in InstalledPoints().of("base04.plugins") if item.name == "inst-two"]
    assert (point.value, point.distribution.version) == ("first_two", "2.0")
