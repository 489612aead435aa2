from __future__ import annotations

from typing import Annotated, Any, Optional

import pytest

from base04_hookspecs import Use
from base04_hookspecs.annotations import unwrap
from base04_hookspecs.database import DatabaseManager

REPORTS = Use("reports", access="read_only")


@pytest.mark.parametrize(
    ("hint", "expected"),
    [
        (DatabaseManager, (DatabaseManager, Use(), False)),
        (DatabaseManager | None, (DatabaseManager, Use(), True)),
        (Optional[DatabaseManager], (DatabaseManager, Use(), True)),  # noqa: UP045 - people write it
        (Annotated[DatabaseManager, REPORTS], (DatabaseManager, REPORTS, False)),
        (Annotated[DatabaseManager | None, "words", REPORTS], (DatabaseManager, REPORTS, True)),
        (Annotated[DatabaseManager, REPORTS] | None, (DatabaseManager, REPORTS, True)),
        (int | str, (int | str, Use(), False)),
        (int | str | None, (int | str | None, Use(), False)),
        (Annotated[int | str, "words"], (int | str, Use(), False)),
        (None, (None, Use(), False)),
    ],
)
def test_unwrap_reads_type_use_and_whether_it_may_be_none(hint: Any, expected: tuple[Any, Use, bool]) -> None:
    assert unwrap(hint) == expected
