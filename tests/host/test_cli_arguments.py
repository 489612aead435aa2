from __future__ import annotations

import io
from typing import Any

import pytest
import typer

from base04.cli.arguments import Words, coerced, read_words

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "times": {"type": "integer"},
        "ratio": {"type": "number"},
        "on": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "ids": {"type": "array", "items": {"$ref": "#/$defs/id"}},
        "options": {"$ref": "#/$defs/options"},
        "a.b": {"type": "string"},
        "maybe": {"type": ["string", "null"]},
        "either": {"type": ["integer", "string"]},
        "size": {"enum": ["1", 2, "large"]},
        "any": {},
    },
    "$defs": {
        "id": {"type": "integer"},
        "options": {"type": "object", "properties": {"mark": {"type": "string"}, "deep": {"type": "object"}}},
    },
    "additionalProperties": {"type": "string"},
}


def arguments(*words: str) -> dict[str, Any]:
    found = read_words(words)
    return found if isinstance(found, dict) else coerced(found, SCHEMA)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], {}),
        (["name=Ada", "times=3"], {"name": "Ada", "times": 3}),
        (["name=7"], {"name": "7"}),
        (["name=true", "a.b=null"], {"name": "true", "a.b": "null"}),
        (["name=", "other=5"], {"name": "", "other": "5"}),
        (["name=x=y"], {"name": "x=y"}),
        (["times=3.0", "ratio=0.5"], {"times": 3.0, "ratio": 0.5}),
        (["times=often"], {"times": "often"}),
        (["times=NaN", "ratio=-Infinity"], {"times": "NaN", "ratio": "-Infinity"}),
        (["on=yes"], {"on": True}),
        (["on=Off"], {"on": False}),
        (["on=maybe"], {"on": "maybe"}),
        (["tags=a"], {"tags": ["a"]}),
        (["tags=1", "tags=b,c"], {"tags": ["1", "b,c"]}),
        (['tags=["a", "b"]'], {"tags": ["a", "b"]}),
        (["ids=1", "ids=2"], {"ids": [1, 2]}),
        (["options.mark=1"], {"options": {"mark": "1"}}),
        (["options.mark=!", "options.deep.er=1"], {"options": {"mark": "!", "deep": {"er": 1}}}),
        (['options={"mark": "?"}'], {"options": {"mark": "?"}}),
        (["name.first=x"], {"name.first": "x"}),
        (["maybe=null"], {"maybe": None}),
        (["maybe=5"], {"maybe": "5"}),
        (["either=5"], {"either": 5}),
        (["either=5.5"], {"either": "5.5"}),
        (["either=[1]"], {"either": "[1]"}),
        (["size=1"], {"size": "1"}),
        (["size=2"], {"size": 2}),
        (['any={"c": null}'], {"any": {"c": None}}),
        (["any=01"], {"any": "01"}),
        (['{"a": 1}'], {"a": 1}),
        (['  {"a": {"b": []}}'], {"a": {"b": []}}),
    ],
)
def test_words_become_what_the_schema_has_for_them(words: list[str], found: dict[str, Any]) -> None:
    assert arguments(*words) == found


def test_one_object_on_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"a": "b"}\n'))
    assert arguments("-") == {"a": "b"}


@pytest.mark.parametrize(
    "words",
    [
        *(["word"], ["a=1", "-"], ["{"], ["=1"], ['{"a": 1}', "b=2"]),
        *(["name=a", "name=b"], ["times=1", "times=2"], ["options={}", "options={}"], ["tags=[]", "tags=[]"]),
        ["options=text", "options.mark=1"],
    ],
)
def test_words_that_are_no_arguments_are_refused(words: list[str]) -> None:
    with pytest.raises(typer.BadParameter):
        arguments(*words)


def test_schema_that_refers_to_itself_comes_to_an_end() -> None:
    schema = {"properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}}
    words: Words = [("a", "1")]
    assert coerced(words, schema) == {"a": 1}
