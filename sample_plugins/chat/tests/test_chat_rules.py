"""Who may be where, and what the distribution offers."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from base04_chat.rooms import guests_chat

from base04_hookspecs import Principal


@pytest.mark.parametrize(
    ("user", "room", "decision"),
    [
        ("guest-ada", "chat_lobby", None),
        ("guest-ada", "user_admin", False),
        ("guest-ada", "news", False),
        ("admin", "news", None),
        (None, "news", None),
    ],
)
def test_guests_are_kept_in_the_chat(user: str | None, room: str, decision: bool | None) -> None:
    assert guests_chat(Principal(user_id=user), room, "join") is decision


def test_plugin_offers_the_page_and_the_rule() -> None:
    (found,) = [each for each in entry_points(group="base04.plugins") if each.name == "chat"]
    plugin = found.load()
    assert [route.path for route in plugin.routes()] == ["/chat", "/chat/", "/chat/chat.js", "/chat/chat.css"]
    assert list(plugin.authorize_room()) == [guests_chat]
