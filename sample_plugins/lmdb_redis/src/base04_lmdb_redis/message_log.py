"""Messages, as they lie in the file until every listener had time to fetch them."""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from base04_lmdb_redis.records import DIGEST_BYTES, pack_moment, unpack_moment
from base04_lmdb_redis.view import View

_HEAD: Final = Struct(">Q16s")
_COUNT: Final = Struct(">I")
_LAST, _TRIMMED = b"last", b"trimmed"
_TRIMMED_AT_ONCE: Final = 100


class Message(NamedTuple):
    """A message of a channel, whose digest it has."""

    number: int
    channel: bytes
    text: bytes


def publish(view: View, channel: bytes, text: bytes, kept_ms: int) -> dict[bytes, int]:
    """Add a message where anybody listens, and return who does, with how many subscriptions.

    Raises:
        ManagerUnavailable: there is no room.
    """
    listeners = listeners_of(view, channel)
    _trim(view, view.now - kept_ms)
    if listeners:
        view.require_room(len(text))
        number = last_number(view) + 1
        view.transaction.put(
            pack_moment(number), _HEAD.pack(view.now, channel) + text, db=view.tables.messages, append=True
        )
        view.transaction.put(_LAST, pack_moment(number), db=view.tables.meta)
    return listeners


def last_number(view: View) -> int:
    """Return the number of the newest message that there has been."""
    return unpack_moment(view.transaction.get(_LAST, pack_moment(0), db=view.tables.meta))


def trimmed_number(view: View) -> int:
    """Return the number of the newest message that is not kept any more."""
    return unpack_moment(view.transaction.get(_TRIMMED, pack_moment(0), db=view.tables.meta))


def after(view: View, number: int, most: int) -> list[Message]:
    """Return the messages after a number, at most so many."""
    found: list[Message] = []
    with view.transaction.cursor(view.tables.messages) as cursor:
        if cursor.set_range(pack_moment(number + 1)):
            for key, data in cursor:
                if len(found) >= most:
                    break
                _, channel = _HEAD.unpack_from(data)
                found.append(Message(unpack_moment(key), channel, data[_HEAD.size :]))
    return found


def listen(view: View, channel: bytes, member: bytes, subscriptions: int) -> None:
    """Note how many subscriptions a member has to a channel."""
    if subscriptions:
        view.transaction.put(channel + member, _COUNT.pack(subscriptions), db=view.tables.listeners)
    else:
        view.transaction.delete(channel + member, db=view.tables.listeners)


def listeners_of(view: View, channel: bytes) -> dict[bytes, int]:
    """Return the members that listen to a channel."""
    found: dict[bytes, int] = {}
    for key in view.beginning_with(channel, view.tables.listeners):
        data = view.transaction.get(key, b"", db=view.tables.listeners)
        found[key[DIGEST_BYTES:]] = _COUNT.unpack(data)[0]
    return found


def members(view: View) -> set[bytes]:
    """Return all members that listen to anything."""
    return {key[DIGEST_BYTES:] for key in view.beginning_with(b"", view.tables.listeners)}


def forget_members(view: View, gone: set[bytes]) -> None:
    """Remove members that are gone."""
    for key in list(view.beginning_with(b"", view.tables.listeners)):
        if key[DIGEST_BYTES:] in gone:
            view.transaction.delete(key, db=view.tables.listeners)


def _trim(view: View, until: int) -> None:
    old: list[bytes] = []
    with view.transaction.cursor(view.tables.messages) as cursor:
        for key, data in cursor:
            if len(old) >= _TRIMMED_AT_ONCE or unpack_moment(data) > until:
                break
            old.append(key)
    for key in old:
        view.transaction.delete(key, db=view.tables.messages)
    if old:
        view.transaction.put(_TRIMMED, old[-1], db=view.tables.meta)
