"""Trying a pack: its actions run through the whole pipeline of a host, without a server.

The fixtures are part of the pytest plugin ``base04``. Installed packs are there by themselves; override
``action_folders`` for packs in folders, and ``action_settings`` or ``action_plugins`` for more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from base04.blocking import AppManager
    from base04_hookspecs.action_discovery import ActionInfo, DefinitionFault
    from base04_hookspecs.context import Principal


class ActionRunner:
    """Runs the actions of a host.

    ``host`` is the host itself, a ``base04.blocking.AppManager``: its managers are there for what a test arranges and
    looks up.
    """

    def __init__(self, host: AppManager) -> None:
        self.host = host

    def run(
        self, action: str, args: Mapping[str, Any] | None = None, /, *, principal: Principal | None = None, **named: Any
    ) -> Any:
        """Run an action and return its result: found, authorised, limited, validated, run and checked as ever.

        Args:
            args, named: the arguments, as a mapping or by name.
            principal: who calls; without one it is the host's own user, who may do everything.

        Raises:
            Base04Error: as a caller would get it.
        """
        return self.host.run_action(action, {**(args or {}), **named}, principal=principal)

    def run_as(self, user_id: str, permissions: Sequence[str], action: str, /, **named: Any) -> Any:
        """Run an action as somebody with some permissions."""
        from base04_hookspecs.context import Principal

        return self.run(action, named, principal=Principal(user_id, tuple(permissions), "token"))

    def run_as_stranger(self, action: str, /, **named: Any) -> Any:
        """Run an action as somebody who has not said who they are."""
        from base04_hookspecs.context import ANONYMOUS

        return self.run(action, named, principal=ANONYMOUS)

    def info(self, action: str) -> ActionInfo:
        """Return what is known of an action.

        Raises:
            LookupError: there is none.
        """
        found = self.host.action_discovery_manager.find_action(action)
        if found is None:
            raise LookupError(f"There is no action {action!r}.")
        return found

    def faults(self) -> list[DefinitionFault]:
        """Return what is wrong with action files."""
        return self.host.action_discovery_manager.get_faults()


@pytest.fixture
def action_folders() -> Sequence[Path]:
    """Return the folders with packs to try, beside those that are installed."""
    return ()


@pytest.fixture
def action_settings() -> Mapping[str, Any]:
    """Return settings of the host, as in ``base04.yaml``."""
    return {}


@pytest.fixture
def action_plugins() -> Sequence[tuple[str, object]]:
    """Return plugins that are not installed, by name: with fakes of managers, for example."""
    return ()


@pytest.fixture
def actions(
    tmp_path_factory: pytest.TempPathFactory,
    action_folders: Sequence[Path],
    action_settings: Mapping[str, Any],
    action_plugins: Sequence[tuple[str, object]],
) -> Iterator[ActionRunner]:
    """Start a host with an empty data folder and yield what runs its actions. Faults of action files fail the test."""
    if any(isinstance(plugin, str) for plugin in action_plugins):
        pytest.fail(
            "action_plugins has pairs of a name and a plugin object. What is installed takes part by itself, "
            'and action_settings leaves them out: {"plugins": {"deny": ["acme-hello"]}}.',
            pytrace=False,
        )
    from base04.blocking import AppManager
    from base04.settings import load_settings
    from base04.testing.isolation import environment_of_tests

    managers = dict(action_settings.get("managers", {}))
    given = dict(managers.get("action_discovery", {}))
    folders = [*given.get("folders", ()), *action_folders]
    managers["action_discovery"] = {"watch": False, **given, "folders": [str(folder) for folder in folders]}
    given = {"data_dir": str(tmp_path_factory.mktemp("base04")), **action_settings, "managers": managers}
    with AppManager(load_settings(given, environ=environment_of_tests()), plugins=action_plugins) as host:
        runner = ActionRunner(host)
        faults = [f"{fault['file']}:{fault['line']}:{fault['column']}: {fault['message']}" for fault in runner.faults()]
        if faults:
            pytest.fail("Action files have faults:\n" + "\n".join(faults), pytrace=False)
        yield runner
