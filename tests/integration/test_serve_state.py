"""States of a whole host over HTTP and on the command line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2 as httpx

from serve_kit import Server, run_base04, write

Serve = Callable[..., Server]
SESSION = {"type": "session", "data": {"a": 1}}


def events(answer: httpx.Response) -> Iterator[dict[str, str]]:
    """Yield the fields of each event of a stream."""
    event: dict[str, str] = {}
    for line in answer.iter_lines():
        if line:
            name, _, value = line.partition(":")
            event[name] = value.strip()
        else:
            if "data" in event:
                yield event
            event = {}


def test_state_is_created_read_changed_and_deleted(serve: Serve) -> None:
    with serve().admin() as admin:
        made = admin.put("/state/s", json={**SESSION, "ttl": 1000, "allowed_transitions": ["update", "delete"]})
        assert (made.status_code, made.headers["etag"], made.headers["location"]) == (201, '"1"', "/state/s")
        shown = admin.get("/state/s")
        assert shown.json() == made.json()
        assert (shown.json()["data"], shown.json()["state_type"]) == ({"a": 1}, "session")
        assert shown.headers["cache-control"] == "private, no-cache"
        patched = admin.patch("/state/s", json={"data": {"b": 2}})
        assert (patched.status_code, patched.headers["etag"]) == (200, '"2"')
        assert patched.json()["data"] == {"a": 1, "b": 2}
        replaced = admin.put("/state/s", json={"data": {"c": 3}}, headers={"if-match": '"2"'})
        assert (replaced.status_code, replaced.json()["data"], replaced.headers["etag"]) == (200, {"c": 3}, '"3"')
        assert admin.delete("/state/s").status_code == 204
        assert admin.get("/state/s").status_code == 404
        assert admin.delete("/state/s").status_code == 404
        assert admin.patch("/state/s", json={"data": {}}).status_code == 404
        assert admin.put("/state/s", json=SESSION).headers["etag"] == '"5"'


def test_tag_tells_whether_a_state_has_changed(serve: Serve) -> None:
    with serve().admin() as admin:
        admin.put("/state/s", json=SESSION)
        for tags in ('"1"', 'W/"1"', '"7", "1"', "*"):
            same = admin.get("/state/s", headers={"if-none-match": tags})
            assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", '"1"')
        assert admin.get("/state/s", headers={"if-none-match": '"2"'}).status_code == 200
        admin.patch("/state/s", json={"transition": "expire"})
        assert admin.get("/state/s").headers["etag"] == '"2-expired"'
        renewed = admin.patch("/state/s", json={"transition": "renew"}, headers={"if-match": '"2-expired"'})
        assert (renewed.status_code, renewed.headers["etag"]) == (200, '"3"')


CONDITIONS: list[tuple[str, Any, dict[str, str], int, str | None]] = [
    ("PATCH", {"data": {}}, {"if-match": '"1"'}, 412, '"2"'),
    ("PATCH", {"data": {}}, {"if-match": '"1", "3"'}, 412, '"2"'),
    ("PATCH", {"data": {}}, {"if-match": '"1", "2"'}, 200, '"3"'),
    ("PATCH", {"data": {}}, {"if-match": 'W/"2"'}, 412, '"2"'),
    ("PATCH", {"data": {}}, {"if-match": '"x"'}, 412, '"2"'),
    ("PATCH", {"data": {}}, {"if-match": "*"}, 200, '"3"'),
    ("PUT", {"data": {}}, {"if-match": '"1"'}, 412, '"2"'),
    ("PUT", {"data": {}}, {"if-match": "*"}, 200, '"3"'),
    ("PUT", {"data": {}, "type": "user"}, {"if-match": "*"}, 409, None),
    ("PUT", SESSION, {"if-none-match": "*"}, 412, None),
    ("PUT", SESSION, {}, 428, None),
    ("PUT", {"data": {}}, {}, 422, None),
    ("PUT", SESSION, {"if-none-match": '"2"'}, 400, None),
    ("DELETE", None, {"if-match": '"1"'}, 412, '"2"'),
    ("DELETE", None, {"if-match": '"2"'}, 204, None),
    ("PATCH", {"transition": "resume"}, {}, 409, None),
    ("PATCH", {"transition": "fly"}, {}, 422, None),
    ("PATCH", {"ttl": 0}, {}, 422, None),
    ("PATCH", {"dat": {}}, {}, 422, None),
]


def test_conditions_and_faults_have_their_status(serve: Serve) -> None:
    with serve().admin() as admin:
        for number, (method, body, fields, status, tag) in enumerate(CONDITIONS):
            path = f"/state/s{number}"
            admin.put(path, json=SESSION)
            admin.patch(path, json={"data": {"b": 2}})
            answer = admin.request(method, path, json=body, headers=fields)
            assert (answer.status_code, answer.headers.get("etag")) == (status, tag), (
                method,
                body,
                fields,
                answer.text,
            )
            if status >= 400:
                assert answer.headers["content-type"] == "application/problem+json"
                assert admin.get(path).headers["etag"] == '"2"'


def test_state_that_is_not_there_matches_nothing(serve: Serve) -> None:
    with serve().admin() as admin:
        for tag in ("*", '"1"'):
            assert admin.put("/state/s", json={"data": {}}, headers={"if-match": tag}).status_code == 412
        assert admin.put("/state/s", json=SESSION, headers={"if-none-match": "*"}).status_code == 201


def test_history_comes_in_pages(serve: Serve) -> None:
    with serve().admin() as admin:
        admin.put("/state/team/7", json=SESSION)
        for n in range(4):
            admin.patch("/state/team/7", json={"data": {"n": n}}, headers={"x-request-id": f"request-{n}"})
        page = admin.get("/state/team/7/history?limit=2").json()
        assert ([change["version"] for change in page["history"]], page["next"]) == ([5, 4], 4)
        assert (page["history"][0]["actor"], page["history"][0]["request_id"]) == ("admin", "request-3")
        page = admin.get("/state/team/7/history?limit=3&before=4").json()
        assert ([change["version"] for change in page["history"]], page["next"]) == ([3, 2, 1], None)
        assert admin.get("/state/team/7/history?limit=2000").status_code == 422
        assert admin.get("/state/nobody/history").json() == {"history": [], "next": None}


def test_changes_are_sent_as_they_come(serve: Serve) -> None:
    server = serve()
    with server.admin() as admin, server.admin() as watcher:
        admin.put("/state/s", json=SESSION)
        admin.patch("/state/s", json={"data": {"n": 2}})
        with watcher.stream("GET", "/state/s/watch?from_version=1") as stream:
            assert stream.headers["content-type"].startswith("text/event-stream")
            coming = events(stream)
            event = next(coming)
            assert (event["id"], event["event"], json.loads(event["data"])["after"]) == (
                "2",
                "change",
                {"a": 1, "n": 2},
            )
            admin.patch("/state/s", json={"data": {"n": 3}})
            assert next(coming)["id"] == "3"
        admin.delete("/state/s")
        with watcher.stream("GET", "/state/s/watch", headers={"last-event-id": "3"}) as stream:
            event = next(events(stream))
            assert (event["id"], json.loads(event["data"])["transition"]) == ("4", "delete")
        assert watcher.get("/state/s/watch", headers={"last-event-id": "x"}).status_code == 422


def test_watcher_that_has_missed_too_much_is_told_so(serve: Serve) -> None:
    server = serve(settings="managers: {state: {history_limit: 2, sweep_interval: 100ms}}\n")
    with server.admin() as admin:
        admin.put("/state/s", json=SESSION)
        for n in range(5):
            admin.patch("/state/s", json={"data": {"n": n}})
        while len(admin.get("/state/s/history").json()["history"]) != 2:
            time.sleep(0.02)
        answer = admin.get("/state/s/watch", headers={"last-event-id": "1"})
        assert (answer.status_code, answer.json()["type"]) == (410, "urn:base04:problem:history-pruned")


def test_host_that_stops_ends_streams(serve: Serve) -> None:
    server = serve()
    with server.admin() as admin, server.admin() as watcher:
        admin.put("/state/s", json=SESSION)
        with watcher.stream("GET", "/state/s/watch?from_version=0") as stream:
            coming = events(stream)
            next(coming)
            server.signal()
            assert list(coming) == []
    assert server.wait() == 0


def test_permissions_go_by_the_beginning_of_the_id(serve: Serve) -> None:
    server = serve(settings='server: {state_permissions: {"user_*": users}}\n')
    with server.admin() as admin, server.client() as client:
        for state_id in ("user_1", "other"):
            admin.put(f"/state/{state_id}", json=SESSION)
            assert client.get(f"/state/{state_id}").status_code == 401
        granted = {"user_id": "ada", "permissions": ["users.read", "state.*"]}
        key = {"x-api-key": admin.post("/api-keys", json=granted).json()["api_key"]}
        assert client.get("/state/user_1", headers=key).status_code == 200
        assert client.get("/state/user_1/history", headers=key).status_code == 200
        refused = client.patch("/state/user_1", json={"data": {}}, headers=key)
        assert (refused.status_code, refused.json()["missing"]) == (403, ["users.write"])
        assert client.put("/state/user_2", json=SESSION, headers=key).status_code == 403
        assert client.delete("/state/user_1", headers=key).status_code == 403
        assert client.patch("/state/other", json={"data": {}}, headers=key).status_code == 200
        only = {"user_id": "eve", "permissions": ["users.*"]}
        key = {"x-api-key": admin.post("/api-keys", json=only).json()["api_key"]}
        assert client.get("/state/other", headers=key).status_code == 403
        assert client.get("/state/other/watch", headers=key).status_code == 403
        assert client.get("/state-events", headers=key).status_code == 403


def test_parked_events_are_shown_and_dealt_with(serve: Serve, tmp_path: Path) -> None:
    write(
        tmp_path / "plugins" / "office.py",
        """
        from base04_hookspecs import hookimpl

        async def refuse(change):
            if change["version"] in (1, 2):
                raise RuntimeError("not now")

        async def begin(app):
            await app.get_state_manager().register_callback("order_*", refuse, name="invoices")

        @hookimpl
        def startup():
            return [begin]
        """,
    )
    quick = "{callback_attempts: 2, callback_pause: 10ms, poll_interval: 100ms}"
    server = serve(settings=f"plugins: {{paths: [plugins]}}\nmanagers: {{state: {quick}}}\n")
    with server.admin() as admin:
        admin.put("/state/order_1", json=SESSION)
        admin.patch("/state/order_1", json={"data": {}})
        admin.patch("/state/order_1", json={"data": {}})
        while len(parked := admin.get("/state-events?status=parked").json()["events"]) != 2:
            time.sleep(0.02)
    table = run_base04("state", "events", cwd=tmp_path)
    assert table.returncode == 0, table.stderr
    assert all(word in table.stdout for word in ("invoices", "order_1", "parked", "RuntimeError: not now"))
    found = json.loads(run_base04("state", "events", "--name", "invoices", "--json", cwd=tmp_path).stdout)["events"]
    assert found == parked
    first, second = (event["event_id"] for event in parked)
    assert run_base04("state", "discard", "invoices", first, cwd=tmp_path).returncode == 0
    assert run_base04("state", "discard", "invoices", first, cwd=tmp_path).returncode == 1
    assert run_base04("state", "retry", "invoices", second, cwd=tmp_path).returncode == 0
    assert json.loads(run_base04("state", "show", "order_1", cwd=tmp_path).stdout)["version"] == 3
    assert run_base04("state", "forget", "invoices", cwd=tmp_path).returncode == 0
    assert run_base04("state", "forget", "invoices", cwd=tmp_path).returncode == 1
    with server.admin() as admin:
        told = admin.get("/audit?event=state_event.*").json()["events"]
        assert [event["event"] for event in told] == ["state_event.retried", "state_event.discarded"]
        assert admin.delete("/state-callbacks").status_code == 422
    assert server.stop() == 0
    empty = run_base04("state", "events", "--waiting", cwd=tmp_path)
    assert empty.stdout == "There are no such events.\n", empty.stderr
