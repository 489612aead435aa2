"""The host in one of several processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from base04.app_manager import AppManager
from base04.blueprint import Blueprint
from base04.workers import messages
from base04.workers.folder import HeldFolder
from base04.workers.member import Member
from base04.workers.peers import whole_metrics
from base04.workers.sharing import refuse_what_is_not_shared
from base04_hookspecs.app import ApplicationHealth, ReloadReport
from base04_hookspecs.health import HealthStatus, worst


class WorkerHost(AppManager):
    """An AppManager whose changes are those of all workers, and whose answers are about all of them."""

    folder: HeldFolder

    def __init__(self, begin: messages.Begin, member: Member) -> None:
        self._begin, self._member = begin, member
        self.revision = begin.accepted.revision
        super().__init__(begin.accepted.settings, safe_mode=begin.safe_mode)

    def _data_folder(self, path: Path) -> HeldFolder:
        folder = HeldFolder(path)
        folder.inherit(self._begin.sockets.lock)
        return folder

    def _switched_off(self) -> frozenset[str]:
        return self._begin.accepted.disabled  # what the others serve, whatever the file says by now

    # Changes

    async def reload(self, *, dry_run: bool = False) -> ReloadReport:
        """Read everything anew, and let the others follow."""
        if dry_run:
            return await super().reload(dry_run=True)
        async with self._member.turn():
            return await super().reload()

    async def enable_plugin(self, name: str) -> bool:
        """Let a plugin take part, in all workers."""
        async with self._member.turn():
            return await super().enable_plugin(name)

    async def disable_plugin(self, name: str, *, swap: bool = False) -> bool:
        """Take a plugin out of all workers."""
        async with self._member.turn():
            return await super().disable_plugin(name, swap=swap)

    async def reload_plugin(self, name: str) -> bool:
        """Read everything anew, and renew what a plugin provides in all workers."""
        async with self._member.turn(renew=name):
            return await super().reload_plugin(name)

    def accept(self) -> messages.Accepted:
        """Count a change that was made here, and return what the host is now."""
        self.revision += 1
        return messages.Accepted(self.blueprint.settings, self.blueprint.disabled, self.revision)

    async def follow(self, accepted: messages.Accepted, renew: str | None) -> None:
        """Become what another worker has become.

        Raises:
            Conflict: it cannot be here; this worker is as it was.
        """
        if accepted.revision > self.revision:
            await self._changeover.follow(accepted.settings, accepted.disabled, renew)
            self.revision = accepted.revision

    def admit(self, blueprint: Blueprint) -> None:
        """Refuse what several processes cannot share."""
        refuse_what_is_not_shared(blueprint, self._begin.workers)

    # What all processes say together

    def own_status(self) -> HealthStatus | None:
        """Return how this worker's managers are, None before they have said."""
        return self.health.latest["status"] if self.health.latest is not None else None

    def whole_health(self, own: ApplicationHealth) -> ApplicationHealth:
        """Add the other workers, of which each that does not serve well makes the host degraded."""
        roster = self._member.roster
        if roster is None:
            return own
        reports = [peer.report for peer in roster.peers]
        well = all(
            report["status"] == "serving" and report["revision"] == roster.revision and report["health"] != "unhealthy"
            for report in reports
        )
        status = own["status"] if well else worst(own["status"], "degraded")
        return {**own, "status": status, "revision": roster.revision, "workers": reports}

    async def whole_metrics(self, own: bytes) -> bytes:
        """Put those of all workers together, each with its number; one that does not answer is left out."""
        roster = self._member.roster
        return own if roster is None else await whole_metrics(own, self._begin.number, roster)

    def convergence(self) -> dict[str, Any]:
        """Return the revision that all should serve, and which workers do."""
        roster = self._member.roster
        if roster is None:
            return {}
        return {"revision": roster.revision, "workers": [peer.report for peer in roster.peers]}
