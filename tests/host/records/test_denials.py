from __future__ import annotations

import itertools

from base04.records.denials import Denials
from base04_hookspecs import Principal, RequestContext


def caller(address: str | None, request_id: str = "r") -> RequestContext:
    return RequestContext(request_id, Principal("ada", (), "token"), address, "http")


def test_first_denial_of_a_kind_is_told_and_the_rest_are_counted() -> None:
    denials = Denials(60.0, 10)
    first = denials.note("auth.denied", "expired", caller("192.0.2.1", "r-1"), {"path": "/a"})
    assert first is not None
    assert (first["client_ip"], first["user_id"], first["request_id"]) == ("192.0.2.1", "ada", "r-1")
    assert first["details"] == {"path": "/a", "reason": "expired"}
    for path in ("/a", "/b", "/b"):
        assert denials.note("auth.denied", "expired", caller("192.0.2.1"), {"path": path}) is None
    assert denials.note("auth.denied", "revoked", caller("192.0.2.1"), {}) is not None
    assert denials.note("auth.denied", "expired", caller("192.0.2.2"), {}) is not None
    assert denials.ended() == []
    (counted,) = denials.ended(all_windows=True)
    assert (counted["details"]["count"], counted["details"]["paths"]) == (3, ["/a", "/b"])
    assert (counted["client_ip"], counted["user_id"], counted["request_id"]) == ("192.0.2.1", None, None)
    assert len(denials) == 0


def test_addresses_of_one_network_are_one() -> None:
    denials = Denials(60.0, 10)
    told = [denials.note("auth.denied", "no", caller(f"2001:db8::{host:x}"), {}) for host in range(1, 100)]
    assert [event is not None for event in told] == [True] + [False] * 98


def test_many_kinds_are_counted_as_one() -> None:
    denials = Denials(60.0, 5)
    addresses = (f"192.0.{high}.{low}" for high, low in itertools.product(range(100), range(100)))
    told = [denials.note("auth.denied", "no", caller(address), {"path": "/" + "x" * 1000}) for address in addresses]
    events = [event for event in told if event is not None]
    assert len(events) == 6
    assert (events[-1]["client_ip"], events[-1]["details"]["reason"]) == (None, "many")
    assert len(events[0]["details"]["path"]) == 200
    assert len(denials) == 6
    counted = denials.ended(all_windows=True)
    assert [event["details"]["count"] for event in counted] == [10_000 - 6]


def test_window_that_has_ended_is_told() -> None:
    denials = Denials(0.0, 5)
    assert denials.note("auth.denied", "no", caller(None), {}) is not None
    assert denials.note("auth.denied", "no", caller(None), {}) is None
    assert [event["details"]["count"] for event in denials.ended()] == [1]
    assert denials.note("auth.denied", "no", caller(None), {}) is not None
    assert denials.ended() == []  # one that was told needs no count
