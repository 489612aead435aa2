"""Signatures and secrets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time

import pytest
from base04_webhooks import InvalidSignature, verify
from base04_webhooks.settings import EndpointSettings
from base04_webhooks.signature import sign
from pydantic import ValidationError
from receiver import SECRET


def headers(body: bytes, at: int | None = None) -> dict[str, str]:
    at = int(time.time()) if at is None else at
    return {"webhook-id": "msg_1", "webhook-timestamp": str(at), "webhook-signature": sign(SECRET, "msg_1", at, body)}


def test_signature_is_that_of_the_standard() -> None:
    key = base64.b64decode(SECRET.removeprefix("whsec_"))
    digest = hmac.new(key, b'msg_1.1614265330.{"test": 2432232314}', hashlib.sha256).digest()
    expected = "v1," + base64.b64encode(digest).decode()
    assert sign(SECRET, "msg_1", 1614265330, b'{"test": 2432232314}') == expected


def test_good_message_gives_its_id() -> None:
    assert verify(SECRET, headers(b"{}"), b"{}") == "msg_1"
    several = headers(b"{}")
    several["webhook-signature"] = "v1,other " + several["webhook-signature"]
    assert verify(SECRET, several, b"{}") == "msg_1"


@pytest.mark.parametrize(
    "change",
    [
        {"webhook-id": "msg_2"},
        {"webhook-id": ""},
        {"webhook-timestamp": "1"},
        {"webhook-timestamp": "soon"},
        {"webhook-signature": ""},
        {"webhook-signature": "v1,ü"},
        {"webhook-signature": "v1,AAAA"},
    ],
)
def test_message_that_was_changed_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(InvalidSignature):
        verify(SECRET, {**headers(b"{}"), **change}, b"{}")


def test_body_that_was_changed_and_messages_of_another_time_are_refused() -> None:
    with pytest.raises(InvalidSignature):
        verify(SECRET, headers(b"{}"), b"[]")
    for at in (int(time.time()) - 1000, int(time.time()) + 1000):
        with pytest.raises(InvalidSignature):
            verify(SECRET, headers(b"{}", at), b"{}")


@pytest.mark.parametrize("secret", ["", "whsec_", "hunter2hunter2hunter2hunter2", "whsec_c2hvcnQ=", "whsec_!!!"])
def test_secret_that_is_none_is_refused_and_not_shown(secret: str) -> None:
    with pytest.raises(ValidationError) as caught:
        EndpointSettings.model_validate({"url": "https://example.org", "secret": secret})
    assert "base04 webhooks secret" in str(caught.value)
    assert not secret or secret == "whsec_" or secret not in str(caught.value)
