"""Have a report built, and watch it."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from base04.client import ActionsClient


@dataclass
class Report:
    pages: int


def build_report(url: str, api_key: str, year: int) -> Report:
    """Build a report in the background, and show how far it is."""
    with ActionsClient(url, api_key=api_key) as client:
        execution = client.submit("reports.build", {"year": year}, key=f"report {year}")
        for info in execution.follow():
            if info["progress"]:
                print(info["progress"]["message"])  # noqa: T201 - it is what the program is for
        return execution.result(returns=Report)


if __name__ == "__main__":
    print(build_report(sys.argv[1], sys.argv[2], 2026))  # noqa: T201 - the same
