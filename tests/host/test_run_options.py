from __future__ import annotations

from typing import Any

import pytest
from starlette.exceptions import HTTPException

from base04.http.run_options import PLAIN, RunOptions, options_of
from base04_hookspecs.errors import InvalidInput


def options(query: str = "", *headers: tuple[str, str]) -> RunOptions:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers]
    scope: dict[str, Any] = {"query_string": query.encode(), "headers": raw}
    return options_of(dict(raw), scope)


@pytest.mark.parametrize("query", ["", "x=1", "dry_run=false", "dry_run=0", "dry_run=true&dry_run=0"])
def test_request_without_options_is_plain(query: str) -> None:
    assert options(query, ("x-other", "1"), ("prefer", "handling=lenient")) is PLAIN


@pytest.mark.parametrize("query", ["dry_run=true", "dry_run=1", "dry_run", "dry_run=", "a=b&dry_run=true"])
def test_dry_run_is_asked_for_in_the_query(query: str) -> None:
    assert options(query) == RunOptions(dry_run=True)


def test_dry_run_that_is_neither_true_nor_false_is_refused() -> None:
    with pytest.raises(InvalidInput) as caught:
        options("dry_run=maybe")
    assert caught.value.faults[0].pointer == "/dry_run"


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        (["respond-async"], RunOptions(respond_async=True)),
        (["Respond-Async; foo=bar"], RunOptions(respond_async=True)),
        (["respond-async, wait=10"], RunOptions(respond_async=True, wait=10.0)),
        (["wait=10", 'respond-async;x="y"'], RunOptions(respond_async=True, wait=10.0)),
        (['wait="7", wait=8'], RunOptions(wait=7.0)),
        (["respond-async, wait=999999"], RunOptions(respond_async=True, wait=60.0)),
        (["respond-async, wait=-1, wait"], RunOptions(respond_async=True)),
        (["respond-async, wait=soon"], RunOptions(respond_async=True)),
    ],
)
def test_preferences_are_read_as_rfc_7240_says(fields: list[str], found: RunOptions) -> None:
    assert options("", *(("prefer", field) for field in fields)) == found


@pytest.mark.parametrize(
    ("field", "key"),
    [
        ('"8e03978e-40d5-43dd-bc93-6894a57f9324"', "8e03978e-40d5-43dd-bc93-6894a57f9324"),
        ('"with spaces, and \\"quotes\\" and \\\\"', 'with spaces, and "quotes" and \\'),
        ("8e03978e-40d5", "8e03978e-40d5"),
        ("  bare  ", "bare"),
        ('"' + "k" * 255 + '"', "k" * 255),
    ],
)
def test_key_is_read_with_and_without_quotes(field: str, key: str) -> None:
    assert options("", ("idempotency-key", field)) == RunOptions(key=key)


@pytest.mark.parametrize("field", ["", '""', '"a', 'a"', "a b", "a,b", "a;b", '"a\\x"', "k" * 256, '"ä"', '"a"; b=1'])
def test_key_that_is_no_text_is_refused(field: str) -> None:
    with pytest.raises(HTTPException, match="must hold one text"):
        options("", ("idempotency-key", field))


def test_two_keys_are_refused() -> None:
    with pytest.raises(HTTPException):
        options("", ("idempotency-key", '"a"'), ("idempotency-key", '"b"'))
