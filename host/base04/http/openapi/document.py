"""Writing the OpenAPI document: one operation for each action that a caller may run."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import version
from typing import Any, Final

from base04.http.openapi.answers import LIMIT_HEADERS, REQUEST_ID, problem_answers, problem_schemas
from base04.http.openapi.runs import ACCEPTED, EXECUTION, RUN_PARAMETERS
from base04.http.openapi.schemas import component
from base04_hookspecs.action_discovery import Action, ActionInfo, PackInfo
from base04_hookspecs.context import Principal

_OF_ACTIONS: Final = ("400", "401", "403", "404", "409", "413", "415", "422", "429", "500", "501", "502", "503", "504")
_OF_LISTS: Final = ("401", "429", "500", "503")


def may_run(action: Action, principal: Principal) -> bool:
    """Tell whether a caller may run an action."""
    info = action.info
    if info["access"] == "public":
        return True
    return principal.authenticated and all(map(principal.may, info["permissions"]))


def openapi(actions: Iterable[Action], packs: Mapping[str, PackInfo], root_path: str = "") -> dict[str, Any]:
    """Return the document for some actions; ``root_path`` is the prefix under which the host is served."""
    schemas = {**problem_schemas(), "Execution": EXECUTION}
    paths: dict[str, Any] = {"/actions": {"get": _list()}, "/actions/{name}": {"get": _show()}}
    used: dict[str, None] = {}
    for action in actions:
        paths[f"/actions/{action.name}"] = {"post": _operation(action.info, schemas)}
        used[action.info["pack"]] = None
    return {
        "openapi": "3.1.1",
        "info": {"title": "Base04", "version": version("base04"), "summary": "The actions that you may run."},
        "servers": [{"url": root_path or "/"}],
        "tags": [_tag(name, packs.get(name)) for name in used],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "responses": {_answer_name(status): answer for status, answer in problem_answers().items()},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
            },
        },
    }


def _operation(info: ActionInfo, schemas: dict[str, Any]) -> dict[str, Any]:
    name = info["name"]
    schemas[f"{name}.arguments"] = component(f"{name}.arguments", info["parameters"], given=True)
    operation: dict[str, Any] = {
        "operationId": name,
        "tags": [info["pack"]],
        "security": _security(info),
        "requestBody": {
            "required": bool(info["parameters"].get("required")),
            "content": {"application/json": _body(info)},
        },
        "parameters": RUN_PARAMETERS,
        "responses": {"200": _result(info, schemas), "202": ACCEPTED, **_problems(_OF_ACTIONS)},
    }
    for key in ("summary", "description"):
        if info[key]:
            operation[key] = info[key]
    return operation


def _body(info: ActionInfo) -> dict[str, Any]:
    body: dict[str, Any] = {"schema": {"$ref": f"#/components/schemas/{info['name']}.arguments"}}
    if info["examples"]:
        body["examples"] = {
            f"example{number}": {"summary": example["summary"], "value": example["arguments"]}
            for number, example in enumerate(info["examples"], 1)
        }
    return body


def _result(info: ActionInfo, schemas: dict[str, Any]) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": {}}
    if info["returns"] is not None:
        name = f"{info['name']}.result"
        schemas[name] = component(name, info["returns"], given=False)
        content["schema"] = {"$ref": f"#/components/schemas/{name}"}
    examples = {
        f"example{number}": {"summary": example["summary"], "value": example["result"]}
        for number, example in enumerate(info["examples"], 1)
        if "result" in example
    }
    if examples:
        content["examples"] = examples
    return {
        "description": "The result of the action.",
        "headers": {"X-Request-ID": REQUEST_ID, **LIMIT_HEADERS},
        "content": {"application/json": content},
    }


def _security(info: ActionInfo) -> list[dict[str, list[str]]]:
    """Return the ways in; the permissions are those that are needed with each."""
    anyone: list[dict[str, list[str]]] = [{}] if info["access"] == "public" else []
    return [*anyone, {"token": info["permissions"]}, {"key": info["permissions"]}]


def _problems(statuses: Iterable[str]) -> dict[str, Any]:
    return {status: {"$ref": f"#/components/responses/{_answer_name(status)}"} for status in statuses}


def _answer_name(status: str) -> str:
    return f"Problem{status}"


def _tag(name: str, pack: PackInfo | None) -> dict[str, str]:
    text = "\n\n".join(part for part in (pack["summary"], pack["description"]) if part) if pack is not None else ""
    return {"name": name, "description": text} if text else {"name": name}


def _list() -> dict[str, Any]:
    shape = {"type": "object", "properties": {"actions": {"type": "object"}, "total": {"type": "integer"}}}
    return _reading("actions.list", "List all actions", shape, _OF_LISTS)


def _show() -> dict[str, Any]:
    shape = {"type": "object", "properties": {"name": {"type": "string"}, "parameters": {"type": "object"}}}
    parameter = {"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}
    operation = _reading("actions.show", "Describe an action", shape, (*_OF_LISTS, "404"))
    return {**operation, "parameters": [parameter]}


def _reading(identity: str, summary: str, shape: dict[str, Any], problems: Iterable[str]) -> dict[str, Any]:
    return {
        "operationId": identity,
        "summary": summary,
        "security": [{}, {"token": []}, {"key": []}],
        "responses": {
            "200": {
                "description": summary,
                "headers": {"X-Request-ID": REQUEST_ID, **LIMIT_HEADERS},
                "content": {"application/json": {"schema": shape}},
            },
            **_problems(problems),
        },
    }
