from __future__ import annotations

from base04_builtin.websocket.faults import refusal_for
from base04_hookspecs.errors import ActionBusy, ActionFailed


def test_action_that_runs_as_often_as_it_may_is_unavailable_for_the_moment() -> None:
    refusal = refusal_for(ActionBusy("It runs as often as it may.", action="a.b", retry_after=2.5), "r1")
    assert (refusal.code, refusal.details) == ("unavailable", {"retry_after": 2.5})


def test_action_that_failed_says_nothing_but_where_to_look() -> None:
    refusal = refusal_for(ActionFailed("with a secret", action="a.b"), "r1")
    assert (refusal.code, refusal.details) == ("internal", {"request_id": "r1"})
    assert "secret" not in refusal.message
