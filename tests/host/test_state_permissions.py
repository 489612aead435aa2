from __future__ import annotations

import pytest

from base04.errors import SettingsError
from base04.settings import load_settings
from base04.state_permissions import StatePermissions


@pytest.mark.parametrize(
    ("state_id", "needed"),
    [
        ("user_1", "users.read"),
        ("user_admin_1", "admins.read"),
        ("user_admin", "users.read"),
        ("user", "state.read"),
        ("system", "host.system.read"),
        ("systems", "state.read"),
    ],
)
def test_longest_pattern_says_what_is_needed(state_id: str, needed: str) -> None:
    permissions = StatePermissions({"user_*": "users", "user_admin_*": "admins", "system": "host.system"})
    assert permissions.needed(state_id, "read") == needed


def test_star_alone_is_for_all() -> None:
    assert StatePermissions({"*": "records"}).needed("anything", "write") == "records.write"


@pytest.mark.parametrize("patterns", [{"a*b": "users"}, {"": "users"}, {"user_*": "users.*"}, {"user_*": "Users!"}])
def test_pattern_that_means_nothing_is_refused(patterns: dict[str, str]) -> None:
    with pytest.raises(SettingsError):
        load_settings({"server": {"state_permissions": patterns}}, environ={})
