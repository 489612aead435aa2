"""Project Wycheproof's vectors for JSON Web Signatures: what is expected of each class, and that it is so.

A vector is accepted only where its key can be loaded at all. The classes:

* keys for algorithms that no token here has (RS384, RS512, PS256, ..., ES512) and keys whose use is not signing:
  refused when they are loaded, so that every vector of theirs is, valid ones too;
* the key of 256 zero bits: refused when it is loaded, as no secret; its vectors, which are about base64url, are tried
  with that rule set aside;
* ``valid`` vectors: accepted, but for those that are not what a compact token is (an empty payload; characters that
  RFC 7515 forbids and lenient decoders skip), which are refused on purpose;
* ``invalid`` vectors, whatever their flags: refused, but for two that are meant to have padding and, as they are
  published, are letter for letter a valid one of the same key. They are tried with padding put in.
"""

from __future__ import annotations

import collections
import json
from pathlib import Path
from typing import Any, Final

import pytest

from base04_builtin.jwt import key_rules
from base04_builtin.jwt.codec import open_token
from base04_builtin.jwt.key_rules import TYPES
from base04_builtin.jwt.signing_key import SigningKey
from base04_hookspecs.errors import InvalidToken

VECTORS: Final[dict[str, Any]] = json.loads(
    (Path(__file__).parent.parent / "data" / "wycheproof" / "json_web_signature.json").read_text()
)

STRICTER: Final = {
    "emptyPayload": "a token has claims",
    "InvalidCharacterInsertedInHeader": "base64url has no such characters (RFC 7515, section 2)",
    "InvalidCharacterInsertedInPayload": "base64url has no such characters (RFC 7515, section 2)",
}
"""Valid vectors that are refused all the same, by their comments."""


def _key(group: dict[str, Any]) -> dict[str, Any]:
    jwk: dict[str, Any] = group.get("public") or group["private"]
    return {name: value for name, value in jwk.items() if name != "kid"}


def _is_for_us(jwk: dict[str, Any]) -> bool:
    return jwk.get("alg") in TYPES and jwk.get("use", "sig") == "sig" and jwk.get("key_ops", ["verify"]) == ["verify"]


CONTRADICTORY: Final = {367: "invalidBase64Padding", 370: "invalidBase64PaddingInPayload"}
"""Invalid vectors that are the same text as a valid one."""

GROUPS: Final = VECTORS["testGroups"]
OURS: Final = [group for group in GROUPS if _is_for_us(_key(group))]
OTHERS: Final = [group for group in GROUPS if not _is_for_us(_key(group))]


def _vectors(groups: list[dict[str, Any]], result: str) -> list[Any]:
    return [
        pytest.param(_key(group), vector["jws"], vector["comment"], id=f"{vector['tcId']}-{vector['comment']}")
        for group in groups
        for vector in group["tests"]
        if vector["result"] == result and vector["tcId"] not in CONTRADICTORY
    ]


def _opens(jwk: dict[str, Any], jws: Any) -> bool:
    with pytest.MonkeyPatch.context() as patch:
        if jwk.get("k") == "A" * 43:
            patch.setattr(key_rules, "_MIN_DISTINCT", 1)
        key = SigningKey(jwk)
    try:
        open_token(jws if isinstance(jws, str) else json.dumps(jws), key)
    except InvalidToken:
        return False
    return True


def test_every_vector_and_every_flag_has_an_expectation() -> None:
    vectors = [vector for group in GROUPS for vector in group["tests"]]
    assert len(vectors) == VECTORS["numberOfTests"] == 401
    results: dict[str, set[str]] = collections.defaultdict(set)
    for vector in vectors:
        for flag in vector["flags"]:
            results[flag].add(vector["result"])
    assert set(results) == set(VECTORS["notes"])
    assert all(found == {"invalid"} for found in results.values())
    assert sum(len(group["tests"]) for group in OURS) > 300


@pytest.mark.parametrize(("jwk", "jws", "comment"), _vectors(OURS, "valid"))
def test_valid_vector_is_accepted_unless_this_is_stricter(jwk: dict[str, Any], jws: Any, comment: str) -> None:
    assert _opens(jwk, jws) is (comment not in STRICTER)


@pytest.mark.parametrize(("jwk", "jws", "comment"), _vectors(OURS, "invalid"))
def test_invalid_vector_is_refused(jwk: dict[str, Any], jws: Any, comment: str) -> None:
    assert _opens(jwk, jws) is False


def test_contradictory_vectors_are_the_valid_one_and_refused_with_padding() -> None:
    (group,) = [group for group in GROUPS if group["comment"] == "base64"]
    texts: dict[str, set[str]] = collections.defaultdict(set)
    for vector in group["tests"]:
        texts[vector["jws"]].add(vector["result"])
    (text,) = [text for text, results in texts.items() if len(results) > 1]
    found = {vector["tcId"]: vector["comment"] for vector in group["tests"] if vector["jws"] == text}
    assert {number: comment for number, comment in found.items() if number != 357} == CONTRADICTORY
    assert _opens(_key(group), text)
    header, payload, signature = text.split(".")
    for padded in (f"{text}=", f"{header}.{payload}==.{signature}", f"{header}=.{payload}.{signature}"):
        assert not _opens(_key(group), padded)


@pytest.mark.parametrize("jwk", [pytest.param(_key(group), id=group["comment"]) for group in OTHERS])
def test_key_of_other_vectors_is_refused(jwk: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"algorithm|not for signatures"):
        SigningKey(jwk)


def test_key_of_zeros_is_refused() -> None:
    (jwk,) = [_key(group) for group in GROUPS if group["comment"] == "base64"]
    with pytest.raises(ValueError, match="nearly all the same"):
        SigningKey(jwk)


@pytest.mark.parametrize("group", [0, 1, 2])
def test_key_with_another_algorithm_opens_nothing(group: int) -> None:
    """The same key material, pinned to an algorithm that it does not fit."""
    jwk = _key(GROUPS[group])
    for algorithm in set(TYPES) - {jwk["alg"]}:
        with pytest.raises(ValueError, match="wants a key of the type"):
            SigningKey({**jwk, "alg": algorithm})
