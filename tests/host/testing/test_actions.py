"""The fixture with which packs are tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from base04.testing.actions import ActionRunner, action_plugins, action_settings, actions
from base04_hookspecs import hookimpl
from base04_hookspecs.errors import ActionFailed, AuthenticationError, InvalidInput, PermissionDenied, RateLimited

pytest_plugins = ["pytester"]

__all__ = ["action_plugins", "action_settings", "actions"]

PACK = """
pack: desk
version: 1.0.0
actions:
  greet:
    handler: .handlers:greet
    access: public
    parameters: {name: {type: string, minLength: 1}, times: {type: integer, default: 1}}
    required: [name]
    rate_limit: 2/hour
  keep: {handler: '.handlers:keep', access: {permissions: [desk.write]}, parameters: {text: {type: string}}, required: [text]}
  broken: {handler: '.handlers:broken', returns: {type: integer}}
"""  # noqa: E501 - flow style keeps the actions in sight

HANDLERS = """
from __future__ import annotations

from base04_hookspecs import blocking
from base04_hookspecs.action_discovery import ActionContext

async def greet(name, times, context: ActionContext):
    return {"message": " ".join([f"Hello, {name}!"] * times), "by": context.principal.user_id}

def keep(text, redis: blocking.RedisManager):
    redis.set("desk", text)
    return text

async def broken(): return "no number"
"""


@pytest.fixture
def action_folders(tmp_path: Path) -> Sequence[Path]:
    (tmp_path / "desk.yaml").write_text(PACK)
    (tmp_path / "handlers.py").write_text(HANDLERS)
    return [tmp_path]


def test_action_runs_through_the_whole_pipeline(actions: ActionRunner) -> None:
    assert actions.run("desk.greet", name="Ada") == {"message": "Hello, Ada!", "by": "local"}
    assert actions.run("greet", {"name": "Ada"}, times=2)["message"] == "Hello, Ada! Hello, Ada!"
    assert actions.info("desk.greet")["access"] == "public"
    with pytest.raises(InvalidInput):
        actions.run("desk.greet", name="")
    with pytest.raises(ActionFailed):
        actions.run("desk.broken")
    with pytest.raises(LookupError):
        actions.info("desk.gone")


def test_callers_are_authorised_and_limited(actions: ActionRunner) -> None:
    assert actions.run_as("ada", ["desk.write"], "desk.keep", text="x") == "x"
    with pytest.raises(PermissionDenied):
        actions.run_as("bob", [], "desk.keep", text="x")
    with pytest.raises(AuthenticationError):
        actions.run_as_stranger("desk.keep", text="x")
    for _ in range(2):
        actions.run_as("ada", [], "desk.greet", name="Ada")
    with pytest.raises(RateLimited):
        actions.run_as("ada", [], "desk.greet", name="Ada")


def test_managers_of_the_host_are_at_hand(actions: ActionRunner) -> None:
    actions.run("desk.keep", text="remembered")
    assert actions.host.get_redis_manager().get("desk") == "remembered"


class TestSettings:
    @pytest.fixture
    def action_settings(self) -> Mapping[str, Any]:
        return {"managers": {"action_discovery": {"overrides": {"desk.greet": {"access": "authenticated"}}}}}

    def test_settings_are_those_of_the_test(self, actions: ActionRunner) -> None:
        with pytest.raises(AuthenticationError):
            actions.run_as_stranger("desk.greet", name="Ada")


class Made:
    @hookimpl
    def action_packs(self) -> list[dict[str, Any]]:
        return [{"pack": "made", "version": "1.0.0", "actions": {"twice": {"handler": twice, "parameters": {"n": {}}}}}]


def twice(n: int = 0) -> int:
    return 2 * n


class TestPlugins:
    @pytest.fixture
    def action_plugins(self) -> Sequence[tuple[str, object]]:
        return [("made", Made())]

    def test_pack_that_a_plugin_defines_runs(self, actions: ActionRunner) -> None:
        assert actions.run("made.twice", n=4) == 8
        assert actions.info("made.twice")["source"] == "plugin 'made'"


def test_name_of_an_installed_plugin_is_refused_with_what_to_write(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nfilterwarnings =\n")
    pytester.makeconftest(
        "import pytest\n"
        "pytest_plugins = ['base04.testing.actions']\n"
        "@pytest.fixture\n"
        "def action_plugins(): return ['acme-hello']\n"
    )
    pytester.makepyfile("def test_it(actions): ...\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*action_plugins has pairs of a name and a plugin object*"])


def test_faults_of_action_files_fail_the_test(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nfilterwarnings =\n")
    pytester.makeconftest(
        "import pathlib, pytest\n"
        "pytest_plugins = ['base04.testing.actions']\n"
        "@pytest.fixture\n"
        "def action_folders(): return [pathlib.Path(__file__).parent]\n"
    )
    (pytester.path / "bad.yaml").write_text("pack: bad\nversion: 1.0.0\nactions: {run: {handlr: x}}\n")
    pytester.makepyfile("def test_it(actions): ...\n")
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*bad.yaml:3:17: The key 'handlr' is not known; did you mean 'handler'?"])
