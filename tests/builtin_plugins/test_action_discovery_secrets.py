"""Handlers that raise and log what they were given in confidence."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from base04.testing.conformance.action_discovery import RecordingHost
from base04_builtin.action_discovery.manager import YamlActionDiscoveryManager
from base04_builtin.action_discovery.settings import ActionDiscoverySettings
from base04_hookspecs import ANONYMOUS
from base04_hookspecs.action_discovery import Action, ActionContext
from base04_hookspecs.errors import Fault, InvalidInput
from base04_hookspecs.handler_signature import handler_signature

SECRET = "correct horse battery staple"

PACK = """
pack: p
version: 1.0.0
actions:
  async: {handler: '.handlers:async_handler', parameters: &p {user: {type: string}, tokens: {type: array, items: {secret: true}}}, required: &r [user, tokens]}
  sync: {handler: '.handlers:handler', parameters: *p, required: *r}
  logs: {handler: '.handlers:logs', parameters: *p, required: *r}
"""  # noqa: E501 - flow style shows the three to be alike

HANDLERS = """
from __future__ import annotations

from base04_hookspecs.action_discovery import ActionContext
from base04_hookspecs.errors import Fault, InvalidInput


class Stubborn(Exception):
    def __init__(self, text): self.text = text
    def __str__(self): return self.text


def failing(user, token):
    if user == "refuse":
        raise InvalidInput(f"{token} is no token", [Fault("/tokens/0", f"not {token}")])
    if user == "stubborn":
        raise Stubborn(f"I say {token}")
    if user == "chain":
        try:
            raise KeyError(token)
        except KeyError as error:
            raise ValueError("no such token") from error
    raise LookupError(f"{user} and {token}", {"token": token, "at": [token.encode()]})


async def async_handler(user, tokens): failing(user, tokens[0])
def handler(user, tokens): failing(user, tokens[0])


async def logs(user, tokens, context: ActionContext):
    context.log.info(f"got {tokens[0]}", user=user, tokens=tokens, nested={"t": (tokens[0],)})
    return tokens[0]
"""


@pytest.fixture
async def manager(tmp_path: Path) -> YamlActionDiscoveryManager:
    (tmp_path / "handlers.py").write_text(HANDLERS)
    (tmp_path / "p.yaml").write_text(PACK)
    manager = YamlActionDiscoveryManager(
        ActionDiscoverySettings(folders=(tmp_path,), watch=False), RecordingHost().as_app
    )
    assert (await manager.discover_all_actions())["faults"] == []
    return manager


def found(manager: YamlActionDiscoveryManager, name: str) -> Action:
    action = manager.catalogue().find(name)
    assert action is not None
    return action


async def raised(manager: YamlActionDiscoveryManager, name: str, user: str) -> Exception:
    action = found(manager, name)
    handler = action.load_handler()
    assert handler_signature(handler).asynchronous is (name == "p.async")

    async def call() -> None:
        result = handler(**action.validate({"user": user, "tokens": [SECRET]}))
        if name == "p.async":
            await result

    with pytest.raises(Exception) as caught:
        await call()
    assert SECRET not in "".join(traceback.format_exception(caught.value))
    return caught.value


@pytest.mark.parametrize("name", ["p.async", "p.sync"])
async def test_secret_is_not_in_what_a_handler_raises(manager: YamlActionDiscoveryManager, name: str) -> None:
    error = await raised(manager, name, "ada")
    assert type(error) is LookupError
    assert error.args == ("ada and ***", {"token": "***", "at": [b"***"]})


@pytest.mark.parametrize("name", ["p.async", "p.sync"])
async def test_secret_is_not_in_faults_that_the_caller_sees(manager: YamlActionDiscoveryManager, name: str) -> None:
    error = await raised(manager, name, "refuse")
    assert isinstance(error, InvalidInput)
    assert (str(error), error.faults) == ("*** is no token", (Fault("/tokens/0", "not ***"),))


async def test_secret_is_not_in_what_led_to_an_error(manager: YamlActionDiscoveryManager) -> None:
    error = await raised(manager, "p.async", "chain")
    assert isinstance(error.__cause__, KeyError)
    assert error.__cause__.args == ("***",)


async def test_error_that_holds_on_to_a_secret_is_replaced(manager: YamlActionDiscoveryManager) -> None:
    error = await raised(manager, "p.async", "stubborn")
    assert (type(error), str(error)) == (RuntimeError, "Stubborn: I say ***")


async def test_secret_is_not_in_log_lines_and_reaches_the_handler(manager: YamlActionDiscoveryManager) -> None:
    async def nested(name: str, args: Any = None) -> None: ...

    context = ActionContext("p.logs", "r1", ANONYMOUS, structlog.get_logger(), nested)
    with capture_logs() as logs:
        result = await found(manager, "p.logs").load_handler()(user="ada", tokens=[SECRET], context=context)
    assert result == SECRET
    [entry] = logs
    assert SECRET not in repr(entry)
    assert (entry["event"], entry["user"], entry["tokens"]) == ("got ***", "ada", ["***"])
