"""``/openapi.json``, ``base04 openapi`` and ``/docs``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from base04_hookspecs.action_discovery import CONCEALED
from serve_kit import Server, run_base04, write

SETTINGS = "managers: {action_discovery: {folders: [actions]}}\n"

PACK = """
pack: shop
version: 1.0.0
summary: A shop
description: It sells everything.
permissions: {shop.write: Change what there is}
$defs:
  money: {type: object, properties: {amount: {type: integer, minimum: 0}, currency: {enum: [EUR, USD], default: EUR}}, required: [amount]}
  node: {type: object, properties: {label: {type: string}, parts: {type: array, items: {$ref: '#/$defs/node'}}}}
actions:
  hello:
    summary: Say hello
    description: Says hello to everybody.
    handler: .handlers:anything
    access: public
    parameters: {name: {type: string, minLength: 1, description: Whom}, times: {type: integer, default: 1}}
    required: [name]
    additionalProperties: {type: string}
    returns: {type: object, properties: {name: {type: string}, token: {type: string, secret: true}}}
    examples: [{summary: One, arguments: {name: Ada}, result: {name: Ada}}]
  buy:
    handler: .handlers:anything
    parameters: {price: {$ref: '#/$defs/money'}, tree: {$ref: '#/$defs/node'}, pin: {type: string, secret: true}, keys: {type: array, items: {secret: true}}}
    additionalProperties: true
    returns: {$ref: '#/$defs/money'}
    rate_limit: 100/minute
  change: {handler: '.handlers:anything', access: {permissions: [shop.write]}, additionalProperties: true}
"""  # noqa: E501 - flow style keeps each action in sight

HANDLERS = "async def anything(**values): return values\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("openapi")
    write(folder / "actions" / "shop.yaml", PACK)
    write(folder / "actions" / "handlers.py", HANDLERS)
    with Server(folder, settings=SETTINGS) as server:
        yield server
        assert server.stop() == 0


@pytest.fixture(scope="module")
def documents(server: Server) -> dict[str, dict[str, Any]]:
    """The document as anybody sees it, as somebody without permissions, and as the administrator."""
    with server.admin() as client:
        made = client.post("/api-keys", json={"user_id": "bob", "permissions": []})
        assert made.status_code == 201, made.text
        admin = client.get("/openapi.json").json()
    with server.client(made.json()["api_key"]) as client:
        bob = client.get("/openapi.json").json()
    with server.client() as client:
        return {"anybody": client.get("/openapi.json").json(), "bob": bob, "admin": admin}


def operations(document: dict[str, Any]) -> set[str]:
    return {path for path, item in document["paths"].items() if "post" in item}


def test_document_is_valid(documents: dict[str, dict[str, Any]]) -> None:
    for document in documents.values():
        assert document["openapi"].startswith("3.1.")
        OpenAPIV31SpecValidator(document).validate()


def test_callers_see_what_they_may_run(documents: dict[str, dict[str, Any]]) -> None:
    assert operations(documents["anybody"]) == {"/actions/shop.hello"}
    assert operations(documents["bob"]) == {"/actions/shop.hello", "/actions/shop.buy"}
    assert operations(documents["admin"]) == {"/actions/shop.hello", "/actions/shop.buy", "/actions/shop.change"}
    assert "shop.change" not in json.dumps(documents["bob"])


def test_operation_says_all_that_its_action_does(documents: dict[str, dict[str, Any]]) -> None:
    document = documents["admin"]
    hello = document["paths"]["/actions/shop.hello"]["post"]
    assert (hello["operationId"], hello["summary"], hello["tags"]) == ("shop.hello", "Say hello", ["shop"])
    body = hello["requestBody"]
    assert body["required"] is True
    assert body["content"]["application/json"]["examples"]["example1"] == {"summary": "One", "value": {"name": "Ada"}}
    assert hello["responses"]["200"]["content"]["application/json"]["examples"]["example1"]["value"] == {"name": "Ada"}
    assert {"401", "403", "422", "429", "500", "503"} <= set(hello["responses"])
    assert document["tags"] == [{"name": "shop", "description": "A shop\n\nIt sells everything."}]
    assert hello["security"] == [{}, {"token": []}, {"key": []}]
    assert document["paths"]["/actions/shop.buy"]["post"]["security"] == [{"token": []}, {"key": []}]
    change = document["paths"]["/actions/shop.change"]["post"]
    assert change["security"] == [{"token": ["shop.write"]}, {"key": ["shop.write"]}]


def test_references_lead_to_within_the_document(documents: dict[str, dict[str, Any]]) -> None:
    document = documents["admin"]
    references = set(re.findall(r'"\$ref": "([^"]+)"', json.dumps(document)))
    assert "#/components/schemas/shop.buy.arguments/$defs/node" in references
    for reference in references:
        found: Any = document
        for step in reference.removeprefix("#/").split("/"):
            found = found[step]


def test_secrets_are_marked(documents: dict[str, dict[str, Any]]) -> None:
    schemas = documents["admin"]["components"]["schemas"]
    properties = schemas["shop.buy.arguments"]["properties"]
    assert properties["pin"] == {"type": "string", "writeOnly": True, "format": "password"}
    assert properties["keys"]["items"] == {"writeOnly": True}
    assert schemas["shop.hello.result"]["properties"]["token"] == {"type": "string", "format": "password"}
    assert CONCEALED not in json.dumps(schemas)


def test_documented_problem_is_the_one_that_comes(server: Server, documents: dict[str, dict[str, Any]]) -> None:
    with server.client() as client:
        answer = client.post("/actions/shop.hello", json={})
    kinds = documents["anybody"]["components"]["responses"]["Problem422"]["content"]["application/problem+json"]
    assert answer.status_code == 422
    assert answer.json()["type"] in kinds["schema"]["properties"]["type"]["enum"]


def test_every_caller_gets_a_document_of_their_own(server: Server) -> None:
    with server.client() as client:
        answer = client.get("/openapi.json")
    assert answer.headers["vary"] == "authorization, x-api-key"
    assert answer.headers["cache-control"].startswith("private")


def test_saved_action_is_in_the_document(server: Server) -> None:
    body = "{handler: '.handlers:anything', access: public, additionalProperties: true}"
    write(server.folder / "actions" / "more.yaml", f"pack: more\nversion: 1.0.0\nactions:\n  run: {body}\n")
    server.stderr.wait_for("action folders were read anew")
    with server.client() as client:
        assert "/actions/more.run" in client.get("/openapi.json").json()["paths"]
        assert client.post("/actions/more.run", json={"a": 1}).json() == {"a": 1}


def test_page_needs_nothing_from_elsewhere(server: Server) -> None:
    with server.client() as client:
        page = client.get("/docs")
        assert page.headers["content-type"].startswith("text/html")
        assert "default-src 'none'" in page.headers["content-security-policy"]
        parts = re.findall(r'(?:src|href)="([^"]+)"', page.text)
        assert sorted(parts) == ["docs/page.css", "docs/page.js", "openapi.json"]
        for part in parts:
            assert client.get(f"/{part}").status_code == 200
        assert "://" not in page.text + client.get("/docs/page.js").text + client.get("/docs/page.css").text


def test_command_line_prints_the_document(tmp_path: Path) -> None:
    write(tmp_path / "base04.yaml", SETTINGS)
    write(tmp_path / "actions" / "shop.yaml", PACK)
    write(tmp_path / "actions" / "handlers.py", HANDLERS)
    ran = run_base04("openapi", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    OpenAPIV31SpecValidator(document).validate()
    assert "/actions/shop.change" in document["paths"]
