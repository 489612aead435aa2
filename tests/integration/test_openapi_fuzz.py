"""Whatever the OpenAPI document allows, and what it does not: no answer is a 500, and none is undocumented."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from serve_kit import Server, write

SEED = 20261126
EXAMPLES = 25
"""Of each operation, valid and invalid ones mixed."""

PACK = """
pack: fuzzed
version: 1.0.0
$defs:
  money:
    type: object
    properties: {amount: {type: integer, minimum: 0, maximum: 1000000}, currency: {enum: [EUR, USD], default: EUR}}
    required: [amount]
    additionalProperties: false
  node:
    type: object
    properties: {label: {type: string, maxLength: 20}, parts: {type: array, maxItems: 3, items: {$ref: '#/$defs/node'}}}
    additionalProperties: false
actions:
  echo:
    handler: .handlers:anything
    access: public
    parameters:
      name: {type: string, minLength: 1, maxLength: 80}
      times: {type: integer, minimum: 1, maximum: 10, default: 1}
      ratio: {type: number, exclusiveMinimum: 0, maximum: 1}
      on: {type: boolean}
    required: [name]
    returns: {type: object, required: [name, times]}
  formats:
    handler: .handlers:anything
    access: public
    parameters:
      id: {type: string, format: uuid}
      at: {type: string, format: date-time}
      mail: {type: string, format: email}
      code: {type: string, pattern: '^[A-Z]{3}-[0-9]{2}$'}
      maybe: {type: [string, 'null'], maxLength: 5}
    returns: {type: object}
  nested:
    handler: .handlers:anything
    access: public
    parameters:
      price: {$ref: '#/$defs/money'}
      tree: {$ref: '#/$defs/node'}
      choice: {oneOf: [{type: string, maxLength: 3}, {type: array, items: {type: integer}, maxItems: 3}]}
      pins: {type: array, items: {type: string, secret: true}, maxItems: 3}
    returns: {type: object}
  open: {handler: .handlers:anything, access: public, additionalProperties: {type: integer}}
  nothing: {handler: .handlers:nothing, access: public, returns: {type: 'null'}}
  blocking: {handler: .handlers:blocking, parameters: {text: {type: string}}, required: [text]}
  guarded: {handler: .handlers:nothing, access: {permissions: [fuzzed.use]}}
"""

HANDLERS = """
async def anything(**values): return values
async def nothing(): return None
def blocking(text): return len(text)
"""

SETTINGS = "managers: {action_discovery: {folders: [actions]}, rate_limiter: {limits: {}}}\nlog: {level: error}\n"

CHECKS = (
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    response_headers_conformance,
    negative_data_rejection,
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder: Path = tmp_path_factory.mktemp("fuzz")
    write(folder / "actions" / "fuzzed.yaml", PACK)
    write(folder / "actions" / "handlers.py", HANDLERS)
    with Server(folder, settings=SETTINGS) as server:
        yield server
        assert server.stop() == 0


@pytest.fixture(scope="module")
def document(server: Server) -> dict[str, Any]:
    with server.admin() as client:
        found: dict[str, Any] = client.get("/openapi.json").json()
    return found


OPERATIONS = ("echo", "formats", "nested", "open", "nothing", "blocking", "guarded")


def test_every_operation_is_tried(document: dict[str, Any]) -> None:
    tried = {f"/actions/fuzzed.{name}" for name in OPERATIONS} | {"/actions", "/actions/{name}"}
    assert set(document["paths"]) == tried


@pytest.mark.parametrize("path", ["/actions", "/actions/{name}", *(f"/actions/fuzzed.{name}" for name in OPERATIONS)])
@pytest.mark.parametrize("known", [True, False], ids=["administrator", "stranger"])
def test_nothing_that_is_sent_gets_an_undocumented_answer(
    server: Server, document: dict[str, Any], path: str, known: bool
) -> None:
    operation = operation_of(document, server.url, path)
    headers = {"x-api-key": server.admin_key} if known else {}
    cases = st.one_of(operation.as_strategy(mode) for mode in GenerationMode)

    @seed(SEED)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(cases)
    def attempt(case: schemathesis.Case) -> None:
        case.call_and_validate(session=session, headers=headers, checks=list(CHECKS))

    with requests.Session() as session:
        attempt()


def operation_of(document: dict[str, Any], url: str, path: str) -> schemathesis.APIOperation:
    schema = schemathesis.openapi.from_dict(document)
    schema.config.update(base_url=url)
    return schema[path]["GET" if path in ("/actions", "/actions/{name}") else "POST"]
