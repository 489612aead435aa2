"""The published schema of action files: it and discovery say the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from jsonschema_rs import Draft202012Validator

from base04.testing.conformance.action_discovery import PACK
from base04_builtin.action_discovery import action, pack
from base04_builtin.action_discovery.schema_keywords import FORMATS, KEYWORDS, TYPES
from base04_hookspecs.action_file import action_file_schema

ROOT = Path(__file__).parents[2]
SCHEMA = action_file_schema()
NEVER = {"$anchor", "$dynamicAnchor", "$dynamicRef", "$id", "$vocabulary"}
"""Keywords of JSON Schema that action files do not use."""

PACKS = sorted(
    path
    for folder in ("docs/examples", "sample_plugins")
    for path in (ROOT / folder).rglob("*.yaml")
    if "\nactions:" in path.read_text()
)


def validator() -> Draft202012Validator:
    return Draft202012Validator(SCHEMA, validate_formats=True, offline=True)


def test_it_is_a_json_schema() -> None:
    Draft202012Validator({"$ref": "https://json-schema.org/draft/2020-12/schema"}, offline=True).validate(SCHEMA)


def test_it_has_every_key_that_discovery_knows_and_no_other() -> None:
    assert set(SCHEMA["properties"]) == set(pack.PACK_KEYS)
    assert set(SCHEMA["$defs"]["action"]["properties"]) == set(action.ACTION_KEYS)
    keywords = SCHEMA["$defs"]["objectSchema"]["properties"]
    assert set(keywords) == KEYWORDS - NEVER
    assert set(keywords["format"]["enum"]) == FORMATS
    assert set(keywords["type"]["anyOf"][0]["enum"]) == set(TYPES)


def test_packs_of_the_documentation_and_the_samples_are_found() -> None:
    assert {path.parent.name for path in PACKS} >= {"actions", "base04_greetings"}


@pytest.mark.parametrize("path", PACKS, ids=str)
def test_good_packs_are_accepted(path: Path) -> None:
    validator().validate(yaml.safe_load(path.read_text()))


def test_pack_of_the_conformance_suite_is_accepted() -> None:
    validator().validate(yaml.safe_load(PACK))


@pytest.mark.parametrize(
    "body",
    [
        "{}",
        "{handlr: '.a:b'}",
        "{handler: no_colon}",
        "{handler: '.a:b', access: publik}",
        "{handler: '.a:b', access: {permissions: []}}",
        "{handler: '.a:b', access: {permission: [a]}}",
        "{handler: '.a:b', timeout: soon}",
        "{handler: '.a:b', rate_limit: often}",
        "{handler: '.a:b', parameters: [name]}",
        "{handler: '.a:b', parameters: {name: {type: strin}}}",
        "{handler: '.a:b', parameters: {name: {minlength: 1}}}",
        "{handler: '.a:b', parameters: {name: {minLength: -1}}}",
        "{handler: '.a:b', parameters: {name: {format: emial}}}",
        "{handler: '.a:b', parameters: {name: {pattern: '('}}}",
        "{handler: '.a:b', parameters: {name: {items: {tipe: string}}}}",
        "{handler: '.a:b', parameters: {name: {$ref: 'https://example.com/s'}}}",
        "{handler: '.a:b', parameters: {name: {$id: x}}}",
        "{handler: '.a:b', parameters: {name: {secret: maybe}}}",
        "{handler: '.a:b', returns: 5}",
        "{handler: '.a:b', examples: [{summary: x}]}",
    ],
)
def test_what_discovery_refuses_by_its_form_is_refused(body: str) -> None:
    pack_text = f"pack: p\nversion: 1.0.0\nactions:\n  run: {body}\n"
    assert not validator().is_valid(yaml.safe_load(pack_text))


@pytest.mark.parametrize(
    "head", ["pack: 9\nversion: 1.0.0", "pack: p\nversion: 1.0", "pack: p", "pack: p\nversion: new"]
)
def test_pack_with_a_faulty_head_is_refused(head: str) -> None:
    assert not validator().is_valid(yaml.safe_load(f"{head}\nactions: {{run: {{handler: '.a:b'}}}}\n"))
    assert validator().is_valid(yaml.safe_load("pack: p\nversion: 1.0.0\nactions: {run: {handler: '.a:b'}}\n"))
