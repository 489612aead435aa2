"""New connections when a secret in a manager's settings has been exchanged."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import structlog

from base04.changes.renewal import Renewal
from base04.generation import Generation
from base04.resolution import VAULT
from base04.secret_values import fingerprint, secret_values
from base04.selection import InstanceKey
from base04_hookspecs.errors import Base04Error, NotFound, NotSupported
from base04_hookspecs.vault import VaultManager

if TYPE_CHECKING:
    from base04.app_manager import AppManager

_SETTLE_S: Final = 0.25
_FIRST_WAIT_S: Final = 1.0
_LONGEST_WAIT_S: Final = 30.0

_log = structlog.get_logger()


class Rotation:
    """Watches the paths that ``${secret:path#key}`` names, and renews whose secrets are others than they started with.

    Changes that come close together, as of a user and a password, count as one. Managers whose new instances do not
    start go on with the old ones, and are tried again.
    """

    def __init__(self, app: AppManager, renewal: Renewal) -> None:
        self._app, self._renewal = app, renewal
        self._changed = asyncio.Event()
        self._watched: VaultManager | None = None
        self._paths: set[str] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin, where settings name secrets."""
        if any(node.secrets for node in self._app.plan.nodes.values()):
            self._task = asyncio.create_task(self._run(), name="rotation")

    async def stop(self) -> None:
        """Watch no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._watched, self._paths = None, set()

    def look(self) -> None:
        """Look soon: another generation serves, perhaps with another vault, or with secrets where there were none."""
        self._changed.set()
        if self._task is None:
            self.start()

    async def _run(self) -> None:
        wait_s = _FIRST_WAIT_S
        while True:
            self._changed.clear()
            settled = await self._settle()
            wait_s = _FIRST_WAIT_S if settled else min(wait_s * 2, _LONGEST_WAIT_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if settled else wait_s * random.uniform(0.5, 1.0)):  # noqa: S311 - jitter
                    await self._changed.wait()

    async def _settle(self) -> bool:
        """Renew whoever holds old secrets; tell whether nothing is left to try again."""
        generation = self._app.newest
        if generation is None:
            return True
        try:
            await self._watch(generation)
            if stale := await self._stale(generation):
                await asyncio.sleep(_SETTLE_S)
                await self._renewal.renew(stale)
        except NotFound as error:
            _log.warning("a secret of the settings has gone; who has it goes on", error=str(error))
        except Base04Error as error:
            _log.warning("managers were not renewed with their new secrets; this is tried again", error=str(error))
            return False
        except Exception:  # noqa: BLE001 - trying goes on, whatever went wrong this time; it is reported
            _log.exception("managers were not renewed with their new secrets; this is tried again")
            return False
        return True

    async def _watch(self, generation: Generation) -> None:
        vault = generation.find(VAULT.role)
        if not isinstance(vault, VaultManager):
            return
        if vault is not self._watched:
            self._paths = set()
        paths = {path for node in self._app.plan.nodes.values() for path, _ in node.secrets}
        try:
            for path in sorted(paths - self._paths):
                await vault.watch_secret(path, self._rotated)
        except NotSupported:
            _log.warning("the vault announces no rotations: restart after exchanging a secret", vault=repr(vault))
        self._watched, self._paths = vault, self._paths | paths

    async def _rotated(self, path: str) -> None:
        _log.info("a secret was exchanged", path=path)
        self._changed.set()

    async def _stale(self, generation: Generation) -> set[InstanceKey]:
        """Return whose secrets are others now. Asked after every start too: one may have changed before the watch."""
        vault = generation.find(VAULT.role)
        return {
            key
            for key, item in generation.running.items()
            if item.node.secrets and fingerprint(await secret_values(item.node, vault)) != item.fingerprint
        }
