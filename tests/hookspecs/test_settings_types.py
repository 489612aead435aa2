from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from base04_hookspecs.settings import DataPath, Duration, ManagerSettings, parse_duration


class Example(ManagerSettings):
    wait: Duration = 1.0
    path: DataPath = Path("example.json")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("5s", 5.0), ("500ms", 0.5), ("2m", 120.0), ("1h", 3600.0), ("30d", 2_592_000.0), ("1.5 s", 1.5), (" 3 ", 3.0)],
)
def test_duration_with_units(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@given(st.integers(1, 10**6) | st.floats(0.001, 10**6))
def test_duration_of_a_number_is_seconds(number: float) -> None:
    assert parse_duration(number) == number


@pytest.mark.parametrize(
    "value", ["", "5 parsecs", "s", "-5s", "0s", 0, -1, True, None, [], float("inf"), float("nan"), "5s\n5", "1e3"]
)
def test_duration_refuses_everything_else(value: Any) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        parse_duration(value)


def test_data_path_lies_in_the_data_folder_unless_it_is_absolute(tmp_path: Path) -> None:
    context = {"data_dir": tmp_path}
    assert Example.model_validate({}, context=context).path == tmp_path / "example.json"
    assert Example.model_validate({"path": "a/b"}, context=context).path == tmp_path / "a/b"
    assert Example.model_validate({"path": "/etc/b"}, context=context).path == Path("/etc/b")
    assert Example.model_validate({"path": "~/b"}, context=context).path == Path.home() / "b"
    assert Example().path == Path("example.json")


def test_manager_settings_are_strict_fixed_and_keep_values_out_of_errors() -> None:
    with pytest.raises(ValidationError) as refused:
        Example.model_validate({"wait": "1s", "tokn": "hush-hush"})
    assert "hush-hush" not in str(refused.value)
    with pytest.raises(ValidationError):
        Example().wait = 2.0
