from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from base04_hookspecs.errors import InvalidInput
from base04_hookspecs.rate_limiter import RateLimit

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}


@given(st.integers(1, 999_999_999), st.integers(1, 999_999), st.sampled_from(sorted(SECONDS)), st.booleans())
def test_rate_limit_reads_what_people_write(amount: int, count: int, unit: str, plural: bool) -> None:
    written = f"{amount}/{count} {unit}{'s' if plural else ''}"
    assert RateLimit.parse(written) == RateLimit(amount, count * SECONDS[unit])


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("20/minute", RateLimit(20, 60)),
        ("5/10 seconds", RateLimit(5, 10)),
        ("2000/day", RateLimit(2000, 86400)),
        (" 1 / hour ", RateLimit(1, 3600)),
        ("5/10seconds", RateLimit(5, 10)),
    ],
)
def test_rate_limit_of_the_specification(text: str, limit: RateLimit) -> None:
    assert RateLimit.parse(text) == limit


@pytest.mark.parametrize(
    "text",
    ["", "20", "20/", "/minute", "0/minute", "5/0 seconds", "-1/minute", "1.5/minute", "20/fortnight", "20 per minute"],
)
def test_rate_limit_refuses_everything_else_and_shows_how_to_write_it(text: str) -> None:
    with pytest.raises(InvalidInput, match="write for example '20/minute'"):
        RateLimit.parse(text)
