from __future__ import annotations

import pytest

from base04.testing.actions import ActionRunner
from base04_hookspecs.errors import Conflict, InvalidInput, PermissionDenied
from base04_hookspecs.redis import key_name

BOB = {"user": "bob", "mail": "bob@example.org", "password": "correct horse", "address": {"city": "Berlin"}}


def test_account_is_opened_once(actions: ActionRunner) -> None:
    assert actions.run("accounts.open", BOB) == {"user": "bob", "plan": "free", "country": "DE"}
    with pytest.raises(Conflict):
        actions.run("accounts.open", BOB)
    assert actions.host.get_redis_manager().get(key_name("accounts", "bob"))["plan"] == "free"


def test_account_needs_an_address_of_mail(actions: ActionRunner) -> None:
    with pytest.raises(InvalidInput) as caught:
        actions.run("accounts.open", BOB, mail="nobody")
    assert [fault.pointer for fault in caught.value.faults] == ["/mail"]


def test_only_who_may_opens_accounts(actions: ActionRunner) -> None:
    with pytest.raises(PermissionDenied):
        actions.run_as("eve", ["accounts.close"], "accounts.open", **BOB)
