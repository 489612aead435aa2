from __future__ import annotations

import io
from typing import Any

import pytest
import typer

from base04.cli.actions import read_arguments


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], {}),
        (["a=1", "b=text", "c=", "d=x=y"], {"a": 1, "b": "text", "c": "", "d": "x=y"}),
        (
            ["a=[1, 2]", 'b={"c": null}', 'd="1"', "e=true", "f=01"],
            {"a": [1, 2], "b": {"c": None}, "d": "1", "e": True, "f": "01"},
        ),
        (['{"a": 1}'], {"a": 1}),
        (['  {"a": {"b": []}}'], {"a": {"b": []}}),
    ],
)
def test_words_become_arguments(words: list[str], found: dict[str, Any]) -> None:
    assert read_arguments(words) == found


def test_numbers_that_json_does_not_have_are_text() -> None:
    assert read_arguments(["a=NaN", "b=-Infinity"]) == {"a": "NaN", "b": "-Infinity"}


def test_one_object_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"a": "b"}\n'))
    assert read_arguments(["-"]) == {"a": "b"}


@pytest.mark.parametrize("words", [["word"], ["a=1", "-"], ["{"], ["=1"], ['{"a": 1}', "b=2"]])
def test_words_that_are_no_arguments_are_refused(words: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        read_arguments(words)
