from __future__ import annotations

from base04.workers.exposition import together
from base04.workers.messages import Peer, Roster
from base04_hookspecs.app import WorkerReport

ONE = b"""# HELP shop_orders_total Orders.
# TYPE shop_orders_total counter
shop_orders_total{kind="book"} 3.0
# HELP shop_wait_seconds Waits.
# TYPE shop_wait_seconds histogram
shop_wait_seconds_bucket{le="1.0"} 1.0
shop_wait_seconds_bucket{le="+Inf"} 2.0
shop_wait_seconds_count 2.0
shop_wait_seconds_sum 4.5
"""
TWO = b"""# HELP shop_orders_total Orders.
# TYPE shop_orders_total counter
shop_orders_total{kind="book",worker="ada"} 4.0
"""


def report(number: int, revision: int = 1) -> WorkerReport:
    return {"worker": number, "pid": number, "status": "serving", "revision": revision, "health": "healthy"}


def roster(*reports: WorkerReport) -> Roster:
    return Roster(2, tuple(Peer(item, "") for item in reports), 7)


def lines(texts: dict[int, bytes], *reports: WorkerReport) -> list[str]:
    return together(texts, roster(*reports)).decode().splitlines()


def test_each_sample_has_the_number_of_its_worker_and_each_family_stands_once() -> None:
    found = lines({1: ONE, 2: TWO}, report(1), report(2))
    assert found.count("# TYPE shop_orders_total counter") == 1
    assert 'shop_orders_total{kind="book",worker="1"} 3.0' in found
    assert 'shop_wait_seconds_bucket{le="+Inf",worker="1"} 2.0' in found
    assert 'shop_wait_seconds_sum{worker="1"} 4.5' in found


def test_label_of_the_same_name_is_kept_under_another() -> None:
    found = lines({2: TWO}, report(2))
    assert 'shop_orders_total{exported_worker="ada",kind="book",worker="2"} 4.0' in found


def test_worker_that_did_not_answer_is_not_up() -> None:
    found = lines({1: ONE}, report(1, revision=2), report(2))
    assert 'base04_worker_up{worker="1"} 1.0' in found
    assert 'base04_worker_up{worker="2"} 0.0' in found
    assert 'base04_worker_revision{worker="1"} 2.0' in found
    assert "base04_revision 2.0" in found
    assert "base04_worker_restarts_total 7.0" in found


def test_what_cannot_be_read_leaves_the_others_as_they_are() -> None:
    found = lines({1: ONE, 2: b"no metrics {"}, report(1), report(2))
    assert 'shop_orders_total{kind="book",worker="1"} 3.0' in found
