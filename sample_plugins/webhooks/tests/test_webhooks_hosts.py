"""Whole hosts: what they tell, and what they lose when they are stopped or killed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from base04_webhooks.settings import key_of
from receiver import SECRET, Receiver
from webhooks_host import WebhooksHost

from base04.testing.servers.process import free_port


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as receiver:
        yield receiver


def endpoint(url: str, *events: str) -> dict[str, Any]:
    return {"url": url, "secret": SECRET, "events": list(events) or ["*"]}


def test_audit_events_and_outcomes_are_told_without_secrets(tmp_path: Path, receiver: Receiver) -> None:
    with WebhooksHost(tmp_path / "host", endpoint(receiver.url)) as host:
        key = host.run("keys", "create", "--user", "ada", "--permission", "*")
        with host.client(key) as client:
            assert client.post("/actions/safe.open", json={"code": "correct horse"}).json() == "battery staple"
            assert client.post("/actions/safe.open", json={"code": "tr0ub4dor"}).status_code == 500
            token = client.post("/auth/token").json()["access_token"]
        with host.client("b04_wrong") as stranger:
            assert stranger.get("/actions").status_code == 401
        wanted = {
            "audit.api_key.created",
            "action.succeeded",
            "action.failed",
            "audit.token.issued",
            "audit.auth.denied",
        }
        found = receiver.wait_for(lambda found: wanted <= {each.body["type"] for each in found})
        told = {each.body["type"]: each.body["data"] for each in found}
    assert told["action.succeeded"]["action"] == "safe.open"
    assert (told["action.succeeded"]["user_id"], told["action.succeeded"]["error"]) == ("ada", None)
    assert (told["action.failed"]["status"], told["action.failed"]["error"]) == ("failed", "ActionFailed")
    assert told["audit.api_key.created"]["details"]["for_user"] == "ada"
    sent = json.dumps([each.body for each in found])
    for secret in (key, key.removeprefix("b04_"), token, "correct horse", "battery staple", "tr0ub4dor", SECRET):
        assert secret not in sent
    assert receiver.unsigned == []


def test_event_outlives_a_host_that_is_killed(tmp_path: Path) -> None:
    port = free_port()
    with WebhooksHost(tmp_path / "host", endpoint(f"http://127.0.0.1:{port}/hook", "audit.api_key.*")) as host:
        key = host.run("keys", "create", "--user", "ada", "--permission", "*")
        with host.client(key) as client:
            for number in range(5):
                made = {"user_id": f"user{number}", "permissions": ["notes.read"]}
                client.post("/api-keys", json=made).raise_for_status()
        host.kill()  # each was written before the key was handed out
        with Receiver(port) as receiver:
            host.start()
            wanted = {"ada", *(f"user{number}" for number in range(5))}
            receiver.wait_for(lambda found: wanted <= {each.body["data"]["details"]["for_user"] for each in found})


def test_outcomes_outlive_a_host_that_is_stopped(tmp_path: Path) -> None:
    port = free_port()
    with WebhooksHost(tmp_path / "host", endpoint(f"http://127.0.0.1:{port}/hook", "action.*")) as host:
        with host.client() as client:
            for _ in range(50):
                client.post("/actions/safe.open", json={"code": "correct horse"}).raise_for_status()
        host.stop()
        with Receiver(port) as receiver:
            host.start()
            found = receiver.wait_for_count(50)
    assert len({each.body["data"]["request_id"] for each in found}) == 50


def test_operator_sees_what_waits_and_tries_again(tmp_path: Path) -> None:
    port = free_port()
    with WebhooksHost(
        tmp_path / "host", endpoint(f"http://127.0.0.1:{port}/secret-path", "action.*"), attempts=1
    ) as host:
        with host.client() as client:
            client.post("/actions/safe.open", json={"code": "correct horse"}).raise_for_status()
            assert client.get("/webhooks").status_code == 401
            assert client.post("/webhooks/one/retry").status_code == 401
        for _ in range(200):
            (status,) = json.loads(host.run("webhooks", "status", "--json"))
            if status["dead"]:
                break
        assert (status["endpoint"], status["waiting"], status["dead"]) == ("one", 0, 1)
        line = host.run("webhooks", "status")
        assert "1 given up; Connect" in line
        assert "secret-path" not in line
        with Receiver(port) as receiver:
            assert host.run("webhooks", "retry", "one") == "1 messages are tried again."
            receiver.wait_for_count(1)
        key = host.run("keys", "create", "--user", "ada", "--permission", "webhooks.read")
        with host.client(key) as client:
            assert client.get("/webhooks").status_code == 200
            assert client.post("/webhooks/one/retry").status_code == 403


def test_action_does_not_wait_for_an_endpoint_that_hangs(tmp_path: Path, receiver: Receiver) -> None:
    release = threading.Event()
    receiver.answers = [lambda: 204 if release.wait(60) else 500] * 4
    with WebhooksHost(tmp_path / "host", endpoint(receiver.url, "action.*"), drain_timeout="100ms") as host:
        with host.client() as client:
            for _ in range(20):
                client.post("/actions/safe.open", json={"code": "correct horse"}).raise_for_status()
        receiver.wait_for_count(1)
        host.stop()  # and stopping waits for it no longer than it may
        release.set()


def test_secret_that_the_command_makes_is_good(tmp_path: Path) -> None:
    host = WebhooksHost(tmp_path, endpoint("http://127.0.0.1:1/"))
    assert len(key_of(host.run("webhooks", "secret"))) == 32
