"""A handler and a manager that use the instance `reports`."""

from __future__ import annotations

from typing import Annotated, ClassVar

from base04_hookspecs import HealthReport, Manager, Use, health_report
from base04_hookspecs.database import DatabaseManager


async def count(table: str, database: Annotated[DatabaseManager, Use("reports", access="read_only")]) -> int:
    """Count the rows of a table of the instance `reports`."""
    return await database.count(table)


class ReportsManager(Manager):
    """A manager that writes to it."""

    role: ClassVar[str] = "reports"

    def __init__(self, database: Annotated[DatabaseManager, Use("reports")]) -> None:
        self.database = database

    async def health_check(self) -> HealthReport:
        """Report that there is nothing to report."""
        return health_report()
