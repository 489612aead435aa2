# ruff: noqa: E501 - tables of one-line cases read best as such
"""What is told of action files that are wrong: every fault, each at its line and column."""

from __future__ import annotations

from pathlib import Path

import pytest
from jsonschema_rs import Draft202012Validator

from base04_builtin.action_discovery.document import MAX_BYTES
from base04_builtin.action_discovery.pack import PackReading, read_pack
from base04_builtin.action_discovery.schema_keywords import FORMATS, KEYWORDS
from base04_builtin.action_discovery.sources import PackFile
from base04_hookspecs.run_policy import ConcurrencyLimit, RetryPolicy, RunPolicy

HANDLERS = """
from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from base04_hookspecs import Use, blocking
from base04_hookspecs.action_discovery import ActionContext
from base04_hookspecs.database import DatabaseManager
from base04_hookspecs.redis import RedisManager

if TYPE_CHECKING:
    from base04_hookspecs.vault import VaultManager

async def run(name=None, times=1): ...
async def needs(name): ...
async def other(name, more): ...
async def positional(name, /): ...
async def open_to_all(name, redis: RedisManager | None, db: Annotated[DatabaseManager, Use("r")], context: ActionContext, **rest): ...
async def blocked(redis: blocking.RedisManager): ...
async def hidden(vault: VaultManager): ...
def plain(redis: blocking.RedisManager, name=None): ...
def awaiting(redis: RedisManager): ...
def generator(): yield
class Class: ...
not_callable = 5
"""

HEAD = "pack: p\nversion: 1.0.0\nactions:\n"


def read(folder: Path, content: str | bytes) -> PackReading:
    (folder / "handlers.py").write_text(HANDLERS)
    (folder / "broken.py").write_text("raise LookupError('no such thing')")
    (folder / "quits.py").write_text("raise SystemExit(3)")
    file = folder / "pack.yaml"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_pack(PackFile(file))


def places(reading: PackReading) -> list[tuple[int, int, str]]:
    return [(fault["line"], fault["column"], fault["message"]) for fault in reading.faults.sorted()]


@pytest.mark.parametrize(
    ("content", "line", "column", "message"),
    [
        ("", 1, 1, "The file is empty."),
        ("# nothing\n", 1, 1, "The file is empty."),
        ("- a\n", 1, 1, "is a mapping"),
        ("---\n...\n", 2, 1, "is a mapping"),
        ("pack: p\n---\npack: q\n", 2, 1, "A second document begins here"),
        ("pack: p\nactions:\n\trun: x\n", 3, 1, "a tab cannot indent"),
        ("pack: 'p\n", 2, 1, "unexpected end of stream"),
        ("pack: p: q\n", 1, 8, "mapping values are not allowed"),
        ("pack: [p\nversion: 1\n", 2, 8, "did not find expected ',' or ']'"),
        ("pack: p\npack: q\n", 2, 1, "The key 'pack' is here twice: it stands in line 1 already."),
        ("1: p\n", 1, 1, 'A key must be a string: write "1" in quotes.'),
        ("? [a]\n: p\n", 1, 3, "A key must be a string, not a mapping or a list."),
        ("null: p\n", 1, 1, "A key must be a string"),
        ("pack: !!python/object/apply:os.system [ls]\n", 1, 7, "The tag 'tag:yaml.org,2002:python/object/apply:os.system'"),
        ("pack: .nan\n", 1, 7, "The number .nan is not JSON."),
        ("pack: 1e999\n", 1, 7, "This number is too large."),
        ("pack: " + "9" * 5000 + "\n", 1, 7, "This number is too large."),
        ("a: &a {x: 1}\nb:\n  <<: *a\n", 3, 3, "Merge keys ('<<') are not part of YAML 1.2"),
        ("pack: *none\n", 1, 7, "The alias '*none' has no anchor '&none'"),
        ("pack: &x [*x]\n", 1, 11, "has no anchor '&x' that ends before it"),
        (b"pack: p\nversion: \xff\n", 2, 10, "The file is not UTF-8."),
        (b"pack: p\nversion: \x00\n", 2, 10, "The character U+0000 is not allowed in YAML."),
        ("[" * 100_000, 1, 66, "nested more than 64 deep"),
        ("é: x\r\nb:\n- " + "[" * 100_000, 3, 66, "nested more than 64 deep"),
        ("- " * 100_000, 1, 131, "nested more than 64 deep"),
        ("{a: " * 100_000, 1, 258, "nested more than 64 deep"),
        ("#" * (MAX_BYTES + 1), 1, 1, "The file is larger than 1024 KiB"),
    ],
)  # fmt: skip
def test_yaml_fault_is_told_at_its_place(
    tmp_path: Path, content: str | bytes, line: int, column: int, message: str
) -> None:
    reading = read(tmp_path, content)
    assert reading.pack is None
    assert any((found[0], found[1]) == (line, column) and message in found[2] for found in places(reading)), places(
        reading
    )


def test_yaml_bomb_is_refused_by_the_number_of_values_that_it_stands_for(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    levels += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    [fault] = places(read(tmp_path, "\n".join(levels)))
    assert "stands for more than 200000 values" in fault[2]


def test_chain_of_aliases_is_refused_by_the_depth_that_it_stands_for(tmp_path: Path) -> None:
    levels = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 200)]
    [fault] = places(read(tmp_path, "\n".join(levels)))
    assert "nested more than 64 deep" in fault[2]


def test_aliases_within_measure_are_allowed(tmp_path: Path) -> None:
    body = "  a: {handler: '.handlers:run', parameters: &p {name: {type: string}}}\n  b: {handler: '.handlers:run', parameters: *p}\n"
    reading = read(tmp_path, HEAD + body)
    assert places(reading) == []
    assert reading.pack is not None
    assert [action.info["parameters"]["properties"] for action in reading.pack.actions] == [
        {"name": {"type": "string"}}
    ] * 2


def test_plain_values_are_those_of_yaml_1_2(tmp_path: Path) -> None:
    body = "  a: {handler: '.handlers:run', parameters: {name: {enum: [no, 010, 0x1F, 2020-01-01, 1:30, 1_000, ~, True, 1.5]}}}\n"
    reading = read(tmp_path, HEAD + body)
    assert reading.pack is not None
    enum = reading.pack.actions[0].info["parameters"]["properties"]["name"]["enum"]
    assert enum == ["no", 10, 31, "2020-01-01", "1:30", "1_000", None, True, 1.5]


@pytest.mark.parametrize(
    ("action", "line", "column", "message"),
    [
        ("run: 5", 4, 8, "The action 'run' must be a mapping with a 'handler'."),
        ("9run: {handler: '.handlers:run'}", 4, 3, "The name '9run' cannot be used"),
        ("a.b: {handler: '.handlers:run'}", 4, 3, "The name 'a.b' cannot be used"),
        ("run: {}", 4, 3, "The key 'handler' is missing."),
        ("run: {handlr: x}", 4, 9, "The key 'handlr' is not known; did you mean 'handler'?"),
        ("run: {handler: '.handlers:run', zzz: x}", 4, 35, "The key 'zzz' is not known: the keys here are $defs, access"),
        ("run: {handler: }", 4, 18, "The handler is empty"),
        ("run: {handler: 5}", 4, 18, "The handler 5 cannot be read: write 'package.module:function'."),
        ("run: {handler: no_colon}", 4, 18, "The handler 'no_colon' cannot be read"),
        ("run: {handler: 'os;x:y'}", 4, 18, "The handler 'os;x:y' cannot be read"),
        ("run: {handler: 'b04test_nowhere:run'}", 4, 18, "The module 'b04test_nowhere' of the handler cannot be imported: No module named"),
        ("run: {handler: '.nowhere:run'}", 4, 18, "there is no file"),
        ("run: {handler: '.a.b:run'}", 4, 18, "in a folder write '.module:function'"),
        ("run: {handler: '.handlers:rum'}", 4, 18, "'.handlers' has no 'rum'; did you mean 'run'?"),
        ("run: {handler: '.broken:run'}", 4, 18, "fails when it is imported: LookupError: no such thing."),
        ("run: {handler: '.quits:run'}", 4, 18, "fails when it is imported: SystemExit: 3."),
        ("run: {handler: '.handlers:Class'}", 4, 18, "is a class: name a function."),
        ("run: {handler: '.handlers:generator'}", 4, 18, "is a generator: return the result instead."),
        ("run: {handler: '.handlers:not_callable'}", 4, 18, "is no function, but 'int'"),
        ("run: {handler: '.handlers:hidden'}", 4, 18, "Import 'VaultManager' outside of 'if TYPE_CHECKING:'."),
        ("run: {handler: '.handlers:blocked'}", 4, 18, "annotate it with base04_hookspecs.redis.RedisManager."),
        ("run: {handler: '.handlers:awaiting'}", 4, 18, "take the type from base04_hookspecs.blocking, or write 'async def'."),
        ("run: {handler: '.handlers:positional', parameters: {name: {}}, required: [name]}", 4, 18, "is positional-only"),
        ("run: {handler: '.handlers:needs'}", 4, 18, "The handler has a parameter 'name' without a default"),
        ("run: {handler: '.handlers:other', parameters: {name: {}}, required: [name]}", 4, 18, "a parameter 'more' without a default"),
        ("run: {handler: '.handlers:needs', parameters: {name: {}}}", 4, 50, "The handler needs 'name', which a caller may leave out"),
        ("run: {handler: '.handlers:run', parameters: {nam: {}}}", 4, 48, "The handler has no parameter 'nam'; did you mean 'name'?"),
        ("run: {handler: '.handlers:plain', parameters: {redis: {}}}", 4, 50, "The handler gets 'redis' from the host"),
        ("run: {handler: '.handlers:run', additionalProperties: true}", 4, 18, "no '**' parameter"),
        ("run: {handler: '.handlers:run', access: publik}", 4, 43, "The access 'publik' is not known; did you mean 'public'?"),
        ("run: {handler: '.handlers:run', access: [a]}", 4, 43, "The access ['a'] is not known"),
        ("run: {handler: '.handlers:run', access: {}}", 4, 35, "The key 'permissions' is missing."),
        ("run: {handler: '.handlers:run', access: {permissions: []}}", 4, 57, "must be a list with at least one permission"),
        ("run: {handler: '.handlers:run', access: {permissions: [a, 'b c']}}", 4, 61, "The permission 'b c' cannot be used"),
        ("run: {handler: '.handlers:run', access: {permission: [a]}}", 4, 44, "did you mean 'permissions'?"),
        ("run: {handler: '.handlers:run', timeout: soon}", 4, 44, "'soon' is not a duration"),
        ("run: {handler: '.handlers:run', timeout: 0s}", 4, 44, "not a duration above zero"),
        ("run: {handler: '.handlers:run', rate_limit: 20/minit}", 4, 47, "The rate limit '20/minit' cannot be read"),
        ("run: {handler: '.handlers:run', rate_limit: [1/second, 5]}", 4, 58, "5 is not a rate limit"),
        ("run: {handler: '.handlers:run', idempotent: maybe}", 4, 47, "'idempotent' must be true or false."),
        ("run: {handler: '.handlers:run', mode: backgruond}", 4, 41, "The mode 'backgruond' is not known; did you mean 'background'?"),
        ("run: {handler: '.handlers:run', priority: 101}", 4, 45, "'priority' must be a whole number from -100 to 100."),
        ("run: {handler: '.handlers:run', retry: 3}", 4, 42, "Only an action with 'idempotent: true' can be tried again"),
        ("run: {handler: '.handlers:run', idempotent: true, retry: 99}", 4, 60, "'attempts' must be a whole number from 2 to 10."),
        ("run: {handler: '.handlers:run', idempotent: true, retry: [3]}", 4, 60, "'retry' must be a number, or a mapping"),
        ("run: {handler: '.handlers:run', idempotent: true, retry: {delay: 1s}}", 4, 53, "The key 'attempts' is missing."),
        ("run: {handler: '.handlers:run', idempotent: true, retry: {attempts: 3, when: [timeuot]}}", 4, 80, "did you mean 'timeout'?"),
        ("run: {handler: '.handlers:run', idempotent: true, retry: {attempts: 3, delay: soon}}", 4, 81, "'soon' is not a duration"),
        ("run: {handler: '.handlers:run', concurrency: 0}", 4, 48, "'limit' must be a whole number from 1 to"),
        ("run: {handler: '.handlers:run', concurrency: {limit: 1, bye: x}}", 4, 59, "The key 'bye' is not known; did you mean 'by'?"),
        ("run: {handler: '.handlers:run', parameters: {name: {}}, required: [name], concurrency: {limit: 1, by: nam}}", 4, 105, "did you mean 'name'?"),
        ("run: {handler: '.handlers:run', summary: [a]}", 4, 44, "'summary' must be a text"),
        ("run: {handler: '.handlers:run', parameters: [name]}", 4, 47, "'parameters' must be a mapping"),
        ("run: {handler: '.handlers:run', parameters: {name: {}}, required: name}", 4, 69, "'required' must be a list."),
        ("run: {handler: '.handlers:run', parameters: {name: {}}, required: [nam]}", 4, 70, "did you mean 'name'?"),
        ("run: {handler: '.handlers:run', parameters: {name: {}}, required: [name, name]}", 4, 69, "non-unique"),
        ("run: {handler: '.handlers:run', parameters: {name: 5}}", 4, 54, "This is not JSON Schema: 5 is not of types"),
        ("run: {handler: '.handlers:run', parameters: {name: {type: strin}}}", 4, 61, "'strin' is not a type of JSON Schema; did you mean 'string'?"),
        ("run: {handler: '.handlers:run', parameters: {name: {minlength: 1}}}", 4, 55, "'minlength' is not a keyword of JSON Schema; did you mean 'minLength'?"),
        ("run: {handler: '.handlers:run', parameters: {name: {minLength: -1}}}", 4, 66, "-1 is less than the minimum of 0"),
        ("run: {handler: '.handlers:run', parameters: {name: {format: emial}}}", 4, 63, "The format 'emial' is not known; did you mean 'email'?"),
        ("run: {handler: '.handlers:run', parameters: {name: {pattern: '('}}}", 4, 64, 'is not a "regex"'),
        ("run: {handler: '.handlers:run', parameters: {name: {$ref: '#/$defs/no'}}}", 4, 61, "There is no '#/$defs/no' here"),
        ("run: {handler: '.handlers:run', parameters: {name: {$ref: 'https://example.com/s'}}}", 4, 61, "There is no 'https://example.com/s' here"),
        ("run: {handler: '.handlers:run', parameters: {name: {default: 5, type: string}}}", 4, 64, 'The default is refused by its own schema: 5 is not of type "string".'),
        ("run: {handler: '.handlers:run', parameters: {name: {default: {x: a}, properties: {x: {type: integer}}}}}", 4, 64, "refused by its own schema at '/x'"),
        ("run: {handler: '.handlers:run', parameters: {name: {if: {properties: {x: {default: 1}}}}}}", 4, 77, "never filled in"),
        ("run: {handler: '.handlers:run', parameters: {name: {secret: maybe}}}", 4, 63, "'secret' must be true or false."),
        ("run: {handler: '.handlers:run', parameters: {name: {secret: true, default: x}}}", 4, 69, "A secret has no default"),
        ("run: {handler: '.handlers:run', examples: {}}", 4, 45, "'examples' must be a list"),
        ("run: {handler: '.handlers:run', examples: [5]}", 4, 46, "An example is a mapping with 'arguments'."),
        ("run: {handler: '.handlers:run', examples: [{argument: {}}]}", 4, 47, "did you mean 'arguments'?"),
        ("run: {handler: '.handlers:run', examples: [{summary: x}]}", 4, 46, "The key 'arguments' is missing."),
        ("run: {handler: '.handlers:run', examples: [{arguments: 5}]}", 4, 58, "'arguments' must be a mapping"),
        ("run: {handler: '.handlers:run', parameters: {name: {type: string}}, examples: [{arguments: {name: 5}}]}", 4, 101, 'The example is refused by the action\'s own schema: the value is not of type "string".'),
        ("run: {handler: '.handlers:run', returns: {type: integer}, examples: [{arguments: {}, result: x}]}", 4, 96, "The example is refused"),
        ("run: {handler: '.handlers:run', returns: 5}", 4, 44, "'returns' must be a mapping"),
        ("run: {handler: '.handlers:run', returns: {type: objct}}", 4, 51, "did you mean 'object'?"),
        ("run: {handler: '.handlers:run', $defs: [a]}", 4, 42, "'$defs' must be a mapping"),
        ("run: {handler: '.handlers:run', $defs: {a: {tipe: string}}}", 4, 47, "did you mean 'type'?"),
        ("run: {handler: '.handlers:run', $defs: {a: {$ref: '#/$defs/a'}}, parameters: {name: {$ref: '#/$defs/a'}}}", 4, 46, "refers to itself without an end"),
        ("run: {handler: '.handlers:run', $defs: {a: {properties: {n: {$ref: '#/$defs/a', default: {}}}}}, parameters: {name: {$ref: '#/$defs/a'}}}", 4, 92, "has itself within it"),
    ],
)  # fmt: skip
def test_action_fault_is_told_at_its_place(tmp_path: Path, action: str, line: int, column: int, message: str) -> None:
    reading = read(tmp_path, f"{HEAD}  {action}\n")
    assert reading.pack is None
    assert any((found[0], found[1]) == (line, column) and message in found[2] for found in places(reading)), places(
        reading
    )


@pytest.mark.parametrize(
    ("content", "line", "column", "message"),
    [
        ("pack: p\nversion: 1.0.0\n", 1, 1, "The key 'actions' is missing."),
        ("pack: p\nversion: 1.0.0\nactions: {}\n", 3, 10, "must name at least one action"),
        ("pack: p\nversion: 1.0.0\nactions: []\n", 3, 10, "'actions' must be a mapping."),
        ("pack: my pack\nversion: 1.0.0\nactions: {}\n", 1, 7, "The name 'my pack' cannot be used"),
        ("pack: p\nversion: 1.10\nactions: {}\n", 2, 10, "is read as a number: put it in quotes"),
        ("pack: p\nversion: new\nactions: {}\n", 2, 10, "The version 'new' cannot be used"),
        ("pack: p\nversion: 1.0.0\nrequires: base04>=99\n", 3, 11, "The pack needs base04>=99, and this is base04 "),
        ("pack: p\nversion: 1.0.0\nrequires: flask>=1\n", 3, 11, "cannot be read: write for example 'base04>=0.1'."),
        ("pack: p\nversion: 1.0.0\nrequires: 'base04 >> 1'\n", 3, 11, "cannot be read"),
        ("pack: p\nversion: 1.0.0\nrequires: 5\n", 3, 11, "cannot be read"),
        ("pack: p\nversion: 1.0.0\nauthors: Ada\n", 3, 10, "'authors' must be a list."),
        ("pack: p\nversion: 1.0.0\nauthors: [Ada, 5]\n", 3, 16, "5 is not a text."),
        ("pack: p\nversion: 1.0.0\npermissions: [a]\n", 3, 14, "'permissions' must be a mapping"),
        ("pack: p\nversion: 1.0.0\npermissions: {'a.*': x}\n", 3, 15, "The permission 'a.*' cannot be introduced"),
        ("pack: p\nversion: 1.0.0\npermissions: {a: 5}\n", 3, 18, "must be a text"),
        ("pack: p\nversion: 1.0.0\nacctions: {}\n", 3, 1, "The key 'acctions' is not known; did you mean 'actions'?"),
    ],
)
def test_pack_fault_is_told_at_its_place(tmp_path: Path, content: str, line: int, column: int, message: str) -> None:
    reading = read(tmp_path, content)
    assert reading.pack is None
    assert any((found[0], found[1]) == (line, column) and message in found[2] for found in places(reading)), places(
        reading
    )


def test_all_faults_of_a_file_are_told_at_once_in_their_order(tmp_path: Path) -> None:
    content = """\
pack: p
version: 1.0
extra: 1
$defs:
  shared: {tipe: string}
actions:
  a:
    handler: .handlers:gone
    access: publik
    parameters:
      name: {type: strin, default: 1}
      times: {type: integer, minimum: 1, default: 0}
  b:
    handlr: .handlers:run
    returns: {$ref: '#/$defs/shared'}
"""
    found = places(read(tmp_path, content))
    assert [(line, column) for line, column, _ in found] == [
        *((2, 10), (3, 1), (5, 12), (8, 14), (9, 13), (11, 20), (12, 51), (13, 3), (14, 5)),
    ]


def test_good_pack_uses_everything_that_is_allowed(tmp_path: Path) -> None:
    content = """\
pack: p
version: "1.0"
description: All of it.
authors: [Ada Lovelace <ada@example.org>]
requires: base04>=0.1
permissions: {a.b: Do all of it}
$defs: {name: {type: string}}
actions:
  all:
    summary: Do it
    description: In full.
    handler: .handlers:open_to_all
    access: {permissions: [a.b, 'c.*', d-e.f]}
    parameters: {name: {$ref: '#/$defs/name', x-hint: mine}}
    required: [name]
    additionalProperties: {type: integer}
    returns: {type: object, properties: {o: {$ref: '#/$defs/own'}}, $defs: {own: {type: integer}}}
    timeout: 500ms
    rate_limit: 5/10 seconds
    idempotent: true
    mode: background
    priority: -3
    retry: {attempts: 4, delay: 100ms, backoff: 3, max_delay: 2s, when: [unavailable, failed]}
    concurrency: {limit: 2, by: name, wait: 1s}
    examples: [{summary: Once, arguments: {name: x, more: 1}, result: {o: 5}}]
  plain: {handler: .handlers:plain}
"""
    reading = read(tmp_path, content)
    assert places(reading) == []
    assert reading.pack is not None
    [everything, plain] = reading.pack.actions
    assert everything.info["permissions"] == ["a.b", "c.*", "d-e.f"]
    assert everything.info["timeout"] == 0.5
    retry = RetryPolicy(4, 0.1, 3.0, 2.0, ("unavailable", "failed"))
    slots = ConcurrencyLimit(2, "name", 1.0)
    assert everything.policy == RunPolicy(True, True, -3, retry, slots)
    assert everything.info["run"] == everything.policy.described()
    assert plain.policy == RunPolicy()
    assert everything.info["source"].endswith("pack.yaml:9")
    assert everything.validate({"name": "x", "more": 1.0}) == {"name": "x", "more": 1}
    assert plain.validate({}) == {}
    assert everything.info["examples"] == [
        {"summary": "Once", "arguments": {"name": "x", "more": 1}, "result": {"o": 5}}
    ]
    info = reading.pack.info
    assert (info["authors"], info["requires"]) == (["Ada Lovelace <ada@example.org>"], "base04>=0.1")
    assert info["permissions"] == {"a.b": "Do all of it"}
    assert info["actions"] == ["p.all", "p.plain"]


def test_every_format_and_keyword_is_one_that_the_validator_knows() -> None:
    for name in FORMATS:
        Draft202012Validator({"format": name}, validate_formats=True, ignore_unknown_formats=False)
    assert {"$ref", "items", "unevaluatedProperties", "dependentRequired", "default"} <= KEYWORDS
