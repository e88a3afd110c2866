"""The calls of `/v1`, against real daemons."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from attempts import suspend
from conftest import PATIENCE, Daemon, wait_for

from task_runner import __version__
from task_runner.api import gate, v1
from task_runner.model.state import State
from task_runner.service import listing
from task_runner.service.store import Query
from task_runner.service.task import Record, Task

#: ends when it is told to, by a file in its working directory
UNTIL_GO = "while [ ! -e go ]; do sleep 0.1; done"
TASK_FIELDS = {
    "taskId", "state", "outcome", "exitCode", "signal", "stalled", "pendingReason", "currentActionIdx", "actions",
    "attempt", "progress", "createdAt", "executeAt", "startedAt", "finishedAt", "lastActivityAt", "usage", "output",
    "receipt", "error", "origin", "name", "batch", "entity", "tags", "metadata", "spec",
}  # fmt: skip


def running(daemon: Daemon, shell: str = UNTIL_GO, before: str = ":", **more: Any) -> str:
    """A task whose command has done what is to be done ``before``, and now does the rest."""
    task_id = daemon.submit(shell=f"{before}; touch begun; {shell}", **more)
    wait_for((daemon.work(task_id) / "begun").exists, "the command has begun")
    daemon.wait_state(task_id, "running")
    return task_id


def end(daemon: Daemon, *task_ids: str) -> None:
    for task_id in task_ids:
        daemon.post(f"/v1/tasks/{task_id}/stop", {"graceSeconds": 0})


def ids(daemon: Daemon, **query: Any) -> list[str]:
    response = daemon.http.get("/v1/tasks", params=query)
    assert response.status_code == 200, response.text
    return [task["taskId"] for task in response.json()]


def instant(stamp: str) -> float:
    return datetime.fromisoformat(stamp).timestamp()


# -- creating


@pytest.mark.parametrize(
    "body",
    [
        {"actions": [{"machine": "process", "parameters": {"command": ["echo", "x"]}, "name": "step"}]},
        {"machine": "echo", "parameters": "echo x"},
        {"machine": "echo", "parameters": ["echo x"]},
        {"machine": "process", "parameters": {"shell": "echo x"}},
        {"command": ["echo", "x"]},
        {"shell": "echo x"},
    ],
)
def test_a_task_in_every_form(shared: Daemon, body: dict[str, Any]):
    response = shared.post("/v1/tasks", {**body, "name": "n", "tags": {"k": "v"}, "metadata": {"m": [1]}})
    created = response.json()
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/tasks/{created['taskId']}"
    assert set(created) >= TASK_FIELDS
    assert (created["outcome"], created["exitCode"], created["finishedAt"]) == (None, None, None)
    assert (created["name"], created["tags"], created["metadata"]) == ("n", {"k": "v"}, {"m": [1]})
    task = shared.wait(created["taskId"])
    assert (task["state"], task["outcome"], task["exitCode"], task["signal"]) == ("exited", "succeeded", 0, None)
    assert shared.output(task["taskId"]) == b"x\n"


def test_what_is_told_of_a_task_that_is_over(shared: Daemon):
    task = shared.wait(shared.submit("sh", "-c", "echo some output; exit 3", name="told"))
    assert set(task) >= TASK_FIELDS
    times = [instant(task[name]) for name in ("createdAt", "startedAt", "lastActivityAt", "finishedAt")]
    assert times[0] <= times[1] <= times[3]
    assert times[1] - 0.1 <= times[2] <= times[3]  # the kernel's clock for files is a tick behind
    assert task["usage"]["cpuSeconds"] >= 0
    assert task["output"]["bytes"] == 12
    assert (task["pendingReason"], task["stalled"], task["error"], task["receipt"]) == (None, None, None, None)
    assert (task["attempt"], task["origin"], task["currentActionIdx"]) == (1, "v1", 0)
    (action,) = task["actions"]
    assert (action["exitCode"], action["state"], action["machine"]) == (3, "exited", "process")
    assert task["spec"]["actions"][0]["parameters"]["command"][0] == "sh"


def test_actions_run_in_order_and_the_first_failure_ends_the_task(shared: Daemon):
    steps = ["echo one >> trace", "cat trace; exit 5", "echo never"]
    task = shared.wait(shared.submit(actions=[{"machine": "process", "parameters": {"shell": s}} for s in steps]))
    assert (task["outcome"], task["exitCode"], task["currentActionIdx"]) == ("failed", 5, 1)
    assert [action["state"] for action in task["actions"]] == ["exited", "exited", "skipped"]
    assert shared.output(task["taskId"]) == b"one\n"


def test_a_task_killed_by_a_signal_says_which(shared: Daemon):
    task = shared.wait(shared.submit("sh", "-c", "kill -SEGV $$"))
    assert (task["outcome"], task["exitCode"], task["signal"]) == ("failed", None, "SIGSEGV")


def test_a_command_that_is_not_there_fails_and_says_so(shared: Daemon):
    task = shared.wait(shared.submit("no-such-program-anywhere"))
    assert (task["state"], task["outcome"], task["exitCode"]) == ("exited", "failed", None)
    assert "no-such-program-anywhere" in task["error"]


def test_the_same_key_makes_the_same_task(shared: Daemon):
    def post(body: dict[str, Any], key: str) -> Any:
        return shared.post("/v1/tasks", body, headers={"Idempotency-Key": key})

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _n: post({"command": ["true"]}, "key-1"), range(16)))
    assert len({answer.json()["taskId"] for answer in answers}) == 1
    assert sorted(answer.status_code for answer in answers) == [200] * 15 + [201]
    other = post({"command": ["false"]}, "key-1")
    assert other.status_code == 409
    assert "idempotency" in other.json()["detail"]
    for key in ("", "x" * 201):
        refused = post({"command": ["true"]}, key)
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (400, "Idempotency-Key")


def test_a_key_is_remembered_by_the_next_daemon(daemon: Daemon):
    def post() -> Any:
        return daemon.post("/v1/tasks", {"command": ["true"]}, headers={"Idempotency-Key": "k"})

    first = post()
    daemon.restart()
    again = post()
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["taskId"] == first.json()["taskId"]


# -- reading


def test_a_task_by_the_beginning_of_its_id(shared: Daemon):
    task_id = shared.submit("true")
    assert shared.task(task_id[:12])["taskId"] == task_id


def test_waiting_returns_when_it_is_over_and_not_before(shared: Daemon):
    task_id = running(shared)
    early = shared.http.get(f"/v1/tasks/{task_id}", params={"wait": "0.05"}).json()
    assert early["state"] == "running"
    with ThreadPoolExecutor(1) as pool:
        late = pool.submit(shared.http.get, f"/v1/tasks/{task_id}", params={"wait": "60"})
        (shared.work(task_id) / "go").touch()
        assert late.result(PATIENCE).json()["outcome"] == "succeeded"
    assert shared.http.get(f"/v1/tasks/{task_id}", params={"wait": "60"}).json()["state"] == "exited"


STRANGE_IDS = [
    "0000000000000000", "f", "..", ".", "%2E%2E", "..%2F..%2Fetc%2Fpasswd", "%2F", "a%2Fb", "%00", "a%00b", "a%0Ab", "%20",
    "%ff%fe", "%C3%A9", "%F0%9F%98%80", "x" * 5000, "*", "'", "%25", "%27%20OR%201=1--", "-1", "null", "~", "0123%7E",
]  # fmt: skip


def plain(
    daemon: Daemon, method: str, path: str, content: str | None, kind: str | None = None
) -> tuple[int, bytes]:
    """A request for this very path: httpx would make another of ".."."""
    connection = http.client.HTTPConnection(daemon.url.removeprefix("http://"), timeout=PATIENCE)
    try:
        headers = {"Authorization": f"Bearer {daemon.token}", "Content-Type": kind or "application/json"}
        connection.request(method, path, content, headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.mark.parametrize("strange", STRANGE_IDS)
def test_an_id_that_is_none_is_not_found_on_any_route(shared: Daemon, strange: str):
    for route in v1.routes:
        if "{task_id}" not in route.path:
            continue
        for method in sorted((route.methods or set()) - {"HEAD"}):
            content = '{"signal": "SIGHUP"}' if route.path.endswith("/signal") else None
            path = route.path.replace("{task_id}", strange).replace("{attempt}", "1")
            status, body = plain(shared, method, path, content, gate.BYTES if path.endswith("/input") else None)
            if status == 307 and strange == "%2F":
                continue  # a slash too many at the end is led to the path without it
            assert (status, bool(json.loads(body)["detail"])) == (404, True), (method, route.path)
    assert shared.http.get("/ready").status_code == 200


def test_what_is_not_there_is_said_to_be_so(shared: Daemon):
    for path in ("/v2", "/v1/task", "/v1/tasks/x/y", "/v1/batch"):
        response = shared.http.get(path)
        assert response.status_code == 404
        assert response.headers["content-type"] == "application/problem+json"
        assert path in response.json()["detail"]


# -- listing


def test_filters(shared: Daemon):
    mark = "filters"
    good = shared.submit("true", tags={"t": mark, "n": "1"}, name="Größe ÄÖ")
    bad = shared.submit("sh", "-c", "exit 1 # Übel", tags={"t": mark, "n": "2"})
    active = running(shared, tags={"t": mark, "n": "3"}, name="Größe active")
    shared.wait(good)
    shared.wait(bad)
    tag = f"t={mark}"
    assert ids(shared, tag=tag) == [good, bad, active]
    assert ids(shared, tag=[tag, "n=2"]) == [bad]
    assert ids(shared, tag="t=filter") == []
    assert ids(shared, tag=tag, state="exited") == [good, bad]
    assert ids(shared, tag=tag, state="running,paused") == [active]
    assert ids(shared, tag=tag, outcome="succeeded") == [good]
    assert ids(shared, tag=tag, outcome="failed,cancelled") == [bad]
    assert ids(shared, tag=tag, state="exited", outcome="failed") == [bad]
    assert ids(shared, tag=tag, stalled="true") == []
    assert ids(shared, tag=tag, stalled="false") == [good, bad, active]
    assert ids(shared, tag=tag, order="desc") == [active, bad, good]
    assert ids(shared, q=active) == [active]
    assert ids(shared, tag=tag, q="gRöße") == [good, active]
    assert ids(shared, tag=tag, q="äö") == []  # A to Z alone are the same in both cases, wherever a task is kept
    assert ids(shared, tag=tag, q="EXIT 1 # Übel") == [bad]
    assert ids(shared, tag=tag, q="%") == []
    end(shared, active)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("state=nowhere", "state"), ("state=running,nowhere", "state"), ("outcome=x", "outcome"), ("stalled=maybe", "stalled"),
        ("limit=0", "limit"), ("limit=10001", "limit"), ("limit=x", "limit"), ("limit=-1", "limit"), ("limit=²", "limit"),
        ("cursor=x", "cursor"), ("cursor=-1", "cursor"), ("cursor=" + "9" * 30, "cursor"), ("order=up", "order"),
        ("tag=novalue", "tag"), ("batches=b", "batches"), ("stat=running", "stat"), ("=", ""),
        ("state=%00", "state"), ("state=%ff", "state"), ("q[]=x", "q[]"),
    ],
)  # fmt: skip
def test_a_filter_that_makes_no_sense_is_refused(shared: Daemon, query: str, field: str):
    response = shared.http.get(f"/v1/tasks?{query}")
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == field
    assert response.json()["detail"]


@pytest.mark.parametrize(
    "query", ["q=%00", "q=%ff%fe", "q=" + "x" * 5000, "tag=%00=%00", "q=%F0%9F%98%80", "q='", "&&&", "state="]
)
def test_strange_words_are_looked_for_like_others(shared: Daemon, query: str):
    assert shared.http.get(f"/v1/tasks?{query}").status_code == 200


def pages(daemon: Daemon, url: str) -> Iterator[list[str]]:
    while url:
        response = daemon.http.get(url)
        assert response.status_code == 200
        yield [task["taskId"] for task in response.json()]
        url = response.links.get("next", {}).get("url", "")


@pytest.mark.parametrize("order", ["asc", "desc"])
def test_paging_is_complete_and_without_doubles_while_tasks_are_added(shared: Daemon, order: str):
    tag = f"paging-{order}"
    before = [shared.submit("true", tags={"t": tag}) for _ in range(25)]
    added: list[str] = []
    enough = threading.Event()

    def add() -> None:
        while not enough.is_set():
            added.append(shared.submit("true", tags={"t": tag}))

    adding = threading.Thread(target=add)
    adding.start()
    try:
        listed = []
        for page in pages(shared, f"/v1/tasks?order={order}&tag=t%3D{tag}&limit=4"):
            assert len(page) <= 4
            listed += page
            if order == "asc" and len(listed) > 200:
                break  # more are added than are listed; the oldest, to which the other way leads, are never more
    finally:
        enough.set()
        adding.join()
    assert len(set(listed)) == len(listed)
    position = {task_id: place for place, task_id in enumerate([*before, *added])}
    places = [position[task_id] for task_id in listed]
    assert places == sorted(places, reverse=order == "desc")
    assert set(before) <= set(listed)
    if order == "asc":
        assert places == list(range(len(places)))


def test_a_last_page_has_no_next(shared: Daemon):
    made = [shared.submit("true", tags={"t": "last"}) for _ in range(3)]
    assert list(pages(shared, "/v1/tasks?tag=t%3Dlast&limit=2")) == [made[:2], made[2:]]
    assert "link" not in shared.http.get("/v1/tasks?tag=t%3Dlast").headers


class _Shelf:
    """Just enough of a book and of its store: something happens while the store is read."""

    def __init__(self, meanwhile: Callable[[_Shelf], None]) -> None:
        self.active: dict[str, Task] = {}
        self.over: list[Task] = []
        self.newest = 0
        self.store = self
        self._meanwhile = meanwhile

    def task(self, seq: int, state: State = State.RUNNING) -> Task:
        record = Record(state=state, created_at="")
        task = Task(id=str(seq), seq=seq, spec_json="{}", name=None, tags={}, record=record)
        self.newest = max(self.newest, seq)
        if state is State.EXITED:
            self.over.append(task)
        else:
            self.active[task.id] = task
        return task

    def finish(self, task_id: str) -> None:
        task = self.active.pop(task_id)
        task.record = Record(state=State.EXITED, created_at="")
        self.over.append(task)

    def finished(self, query: Query) -> list[Task]:
        found = [t for t in self.over if query.after is None or (t.seq < query.after) == query.newest_first]
        found = sorted(found, key=lambda t: t.seq, reverse=query.newest_first)[: query.limit]
        self._meanwhile(self)
        return found


def _one_ends(shelf: _Shelf) -> None:
    shelf.finish("2")


def _two_come(shelf: _Shelf) -> None:
    shelf.task(5)
    shelf.task(6)


@pytest.mark.parametrize("meanwhile", [_one_ends, _two_come])
@pytest.mark.parametrize("newest_first", [False, True])
def test_a_page_is_what_was_there_when_it_was_asked_for(meanwhile: Any, newest_first: bool):
    shelf = _Shelf(meanwhile)
    shelf.task(1, State.EXITED)
    for seq in (2, 3):
        shelf.task(seq)
    shelf.task(4, State.EXITED)
    page = asyncio.run(listing.list_tasks(shelf, Query(newest_first=newest_first)))  # type: ignore[arg-type]
    assert [task.seq for task in page] == ([4, 3, 2, 1] if newest_first else [1, 2, 3, 4])


def test_a_task_accepted_while_a_later_one_ended_is_on_the_next_page():
    def meanwhile(shelf: _Shelf) -> None:
        shelf.task(3)

    shelf = _Shelf(meanwhile)
    shelf.task(1, State.EXITED)
    shelf.newest = 1
    shelf.over.append(
        Task(id="4", seq=4, spec_json="{}", name=None, tags={}, record=Record(state=State.EXITED, created_at=""))
    )
    page = asyncio.run(listing.list_tasks(shelf, Query()))  # type: ignore[arg-type]
    assert [task.seq for task in page] == [1]


# -- stopping


def test_stop_answers_with_what_is_so_by_then_and_the_task_ends(shared: Daemon):
    task_id = running(shared)
    answer = shared.post(f"/v1/tasks/{task_id}/stop").json()
    assert answer["state"] in ("running", "stopping", "exited")  # the first: its runner has not come to it in time
    assert answer["stopRequested"]["requestedAt"]
    task = shared.wait(task_id)
    assert (task["state"], task["outcome"]) == ("exited", "cancelled")
    assert (task["receipt"]["reason"], task["receipt"]["signal"]) == ("stop", "SIGTERM")
    assert task["receipt"]["signalledCount"] >= 1
    assert not shared.alive(task_id)


def test_stop_does_not_wait_for_a_task_that_takes_its_time(shared: Daemon):
    task_id = running(shared, before="trap : TERM", graceSeconds=1000)
    answer = shared.post(f"/v1/tasks/{task_id}/stop").json()
    assert (answer["taskId"], answer["outcome"]) == (task_id, None)
    assert shared.wait_state(task_id, "stopping")["outcome"] is None
    # a second stop shortens the grace
    shared.post(f"/v1/tasks/{task_id}/stop?wait=60", {"graceSeconds": 0})
    task = shared.task(task_id)
    assert (task["outcome"], task["receipt"]["killedCount"] >= 1) == ("cancelled", True)


def test_stop_with_another_signal(shared: Daemon):
    task_id = running(shared, before="trap 'echo got INT; exit 4' INT")
    for name in ("SIGINT", "INT", 2, "2"):
        assert shared.post(f"/v1/tasks/{task_id}/stop?wait=60", {"signal": name}).status_code == 200
    task = shared.wait(task_id)
    assert (task["outcome"], task["receipt"]["signal"], task["exitCode"]) == ("cancelled", "SIGINT", 4)
    assert shared.output(task_id).endswith(b"got INT\n")


def test_stop_of_a_task_that_is_over_changes_nothing(shared: Daemon):
    before = shared.wait(shared.submit("false"))
    answer = shared.post(f"/v1/tasks/{before['taskId']}/stop")
    assert (answer.status_code, answer.json()) == (200, before)


@pytest.mark.parametrize(
    ("call", "body", "field"),
    [
        ("stop", {"signal": "SIGNONE"}, "signal"), ("stop", {"signal": 99}, "signal"), ("stop", {"signal": []}, "signal"),
        ("stop", {"signal": "²"}, "signal"), ("stop", {"signal": ""}, "signal"), ("stop", {"signal": True}, "signal"),
        ("stop", {"graceSeconds": -1}, "graceSeconds"), ("stop", {"graceSeconds": "1"}, "graceSeconds"),
        ("stop", {"graceSeconds": True}, "graceSeconds"), ("stop", {"graceSeconds": 1e300}, "graceSeconds"),
        ("stop", {"grace": 1}, "grace"), ("stop", [], ""), ("stop", 5, ""), ("stop", "x", ""),
        ("signal", {}, "signal"), ("signal", {"signal": None}, "signal"), ("signal", {"signal": 0}, "signal"),
        ("signal", {"signal": "SIGRTMIN"}, "signal"), ("signal", {"signal": 1.5}, "signal"), ("signal", {"sig": 1}, "sig"),
        ("pause", {"x": 1}, "x"), ("resume", {"x": 1}, "x"), ("retry", {"x": 1}, "x"), ("retry", [1], ""),
    ],
)  # fmt: skip
def test_a_control_with_a_faulty_body_is_refused_and_does_nothing(shared: Daemon, call: str, body: Any, field: str):
    task_id = shared.wait(shared.submit("true"))["taskId"]
    response = shared.post(f"/v1/tasks/{task_id}/{call}", body)
    assert response.status_code == 400
    assert response.json()["errors"][0]["field"] == field
    assert shared.task(task_id)["attempt"] == 1


@pytest.mark.parametrize("call", ["stop", "pause", "resume", "retry", "signal"])
@pytest.mark.parametrize("raw", [b"{", b"\xff", b"[" * 10_000, b'{"signal": NaN}', b'{"signal": 1, "signal": 2}'])
def test_a_control_with_a_body_that_is_not_json_is_refused(shared: Daemon, call: str, raw: bytes):
    task_id = shared.wait(shared.submit("true"))["taskId"]
    response = shared.http.post(
        f"/v1/tasks/{task_id}/{call}", content=raw, headers={"Content-Type": "application/json"}
    )
    assert (response.status_code, bool(response.json()["detail"])) == (400, True)


# -- pausing


def test_a_resume_behind_a_pause_wins_though_a_late_runner_hears_both_at_once(shared: Daemon):
    task_id = shared.submit("sleep", "600")
    shared.wait_state(task_id, "running")
    runner = shared.runner_pid(task_id)
    suspend(runner)
    assert shared.post(f"/v1/tasks/{task_id}/pause").json()["state"] == "running"
    assert shared.post(f"/v1/tasks/{task_id}/resume").json()["state"] == "running"
    os.kill(runner, signal.SIGCONT)
    # handlers of signals that are delivered together run in reverse: it resumes, and pauses then
    task = wait_for(lambda: (t := shared.task(task_id))["pausedSeconds"] and t, "it was paused for a while")
    assert shared.wait_state(task_id, "running")["pausedSeconds"] >= task["pausedSeconds"]


def test_a_pause_stops_the_whole_tree_and_a_resume_lets_it_go_on(shared: Daemon):
    count = 'i=0; while :; do i=$((i+1)); echo $i > "$0"; sleep 0.01; done'
    task_id = running(shared, f"setsid sh -c '{count}' a & sh -c '{count}' b & wait")
    directory = shared.work(task_id)
    wait_for(lambda: (directory / "a").exists() and (directory / "b").exists(), "both count")
    answer = shared.post(f"/v1/tasks/{task_id}/pause").json()
    assert answer["state"] in ("paused", "running")
    task = shared.wait_state(task_id, "paused")
    assert task["pausedAt"]
    assert len(shared.alive(task_id)) >= 3
    # a process that waits for a disk stops a moment later
    wait_for(lambda: shared.stands_still(task_id), "all of it is stopped")
    assert shared.post(f"/v1/tasks/{task_id}/pause").json()["state"] == "paused"
    counted = (directory / "a").read_text(), (directory / "b").read_text()
    shared.post(f"/v1/tasks/{task_id}/resume")
    assert shared.wait_state(task_id, "running")["pausedAt"] is None
    wait_for(lambda: (directory / "a").read_text().strip() not in ("", counted[0].strip()), "a counts on")
    wait_for(lambda: (directory / "b").read_text().strip() not in ("", counted[1].strip()), "b counts on")
    end(shared, task_id)
    assert shared.wait(task_id)["pausedSeconds"] > 0


def test_a_paused_task_is_stopped_like_any_other(shared: Daemon):
    task_id = running(shared, before="trap 'echo polite; exit 0' TERM")
    shared.post(f"/v1/tasks/{task_id}/pause")
    shared.wait_state(task_id, "paused")
    shared.post(f"/v1/tasks/{task_id}/stop")
    assert shared.wait(task_id)["outcome"] == "cancelled"
    assert shared.output(task_id).endswith(b"polite\n")


def paused_within(daemon: Daemon, limit: float) -> str:
    """A task with a time limit, paused before that was over. Where the machine stood still for so long, another is."""
    for _ in range(3):
        task_id = daemon.submit(shell=UNTIL_GO, timeoutSeconds=limit)
        daemon.wait_state(task_id, "running", "exited")
        daemon.post(f"/v1/tasks/{task_id}/pause")
        if daemon.wait_state(task_id, "paused", "exited")["state"] == "paused":
            return task_id
    pytest.fail("no task was paused in time")


def test_a_time_limit_does_not_run_while_the_task_is_paused(shared: Daemon):
    limit = 4.0
    task_id = paused_within(shared, limit)
    started = time.monotonic()
    wait_for(lambda: time.monotonic() > started + limit + 0.5, "more time than the limit has passed")
    assert shared.task(task_id)["state"] == "paused"
    shared.post(f"/v1/tasks/{task_id}/resume")
    task = shared.wait(task_id)
    assert (task["outcome"], task["receipt"]["reason"]) == ("timed_out", "timeout")
    assert task["pausedSeconds"] > limit
    lasted = instant(task["finishedAt"]) - instant(task["startedAt"])
    assert lasted >= task["pausedSeconds"] + limit - 0.1


def test_a_time_limit_ends_a_task(shared: Daemon):
    task = shared.wait(shared.submit("sleep", "1000", timeoutSeconds=0.2))
    assert (task["state"], task["outcome"], task["signal"]) == ("exited", "timed_out", "SIGTERM")
    assert not shared.alive(task["taskId"])


@pytest.mark.parametrize("call", ["pause", "resume", "signal"])
def test_what_is_over_cannot_be_paused_resumed_or_signalled(shared: Daemon, call: str):
    task_id = shared.wait(shared.submit("true"))["taskId"]
    response = shared.post(f"/v1/tasks/{task_id}/{call}", {"signal": "SIGHUP"} if call == "signal" else None)
    assert response.status_code == 409
    assert "exited" in response.json()["detail"]


# -- signals, retries


def test_a_signal_reaches_the_command(shared: Daemon):
    task_id = running(shared, before="trap 'echo got USR1; touch go' USR1")
    assert shared.post(f"/v1/tasks/{task_id}/signal", {"signal": "SIGUSR1"}).status_code == 200
    assert shared.wait(task_id)["outcome"] == "succeeded"
    assert shared.output(task_id) == b"got USR1\n"


def test_a_retry_is_one_more_attempt(shared: Daemon, tmp_path: Path):
    trace = tmp_path / "trace"
    task_id = shared.submit("sh", "-c", f"echo x >> {trace}; echo $TASK_RUNNER_ATTEMPT; [ $(wc -l < {trace}) -gt 1 ]")
    assert shared.wait(task_id)["outcome"] == "failed"
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _n: shared.post(f"/v1/tasks/{task_id}/retry"), range(6)))
    # those who came too late found it under way, or over again and were a retry of their own
    assert {answer.status_code for answer in answers} <= {200, 409}
    made = sum(answer.status_code == 200 for answer in answers)
    task = wait_for(lambda: (t := shared.wait(task_id))["attempt"] == 1 + made and t, "all attempts are over")
    assert task["outcome"] == "succeeded"
    assert trace.read_text() == "x\n" * (1 + made)
    assert [(each["attempt"], each["outcome"]) for each in task["attempts"]][0] == (1, "failed")
    assert shared.http.get(f"/v1/tasks/{task_id}/output?attempt=1").content == b"1\n"
    assert shared.http.get(f"/v1/tasks/{task_id}/output?attempt=2").content == b"2\n"
    assert shared.http.get(f"/v1/tasks/{task_id}/output?attempt={2 + made}").status_code == 400


def test_a_task_that_runs_cannot_be_retried(shared: Daemon):
    task_id = running(shared)
    response = shared.post(f"/v1/tasks/{task_id}/retry")
    assert (response.status_code, "running" in response.json()["detail"]) == (409, True)
    end(shared, task_id)


# -- removing


def test_a_removed_task_is_gone_with_its_files(shared: Daemon):
    task_id = shared.wait(shared.submit("sh", "-c", "mkdir -p d/e; touch d/e/f; chmod 0 d/e d"))["taskId"]
    assert shared.http.delete(f"/v1/tasks/{task_id}").json() == {"success": True}
    assert task_id not in ids(shared)
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/output"), ("GET", "/events"), ("POST", "/retry")):
        assert shared.http.request(method, f"/v1/tasks/{task_id}{path}").status_code == 404
    wait_for(lambda: not (shared.state_dir / "tasks" / task_id).exists(), "its directory is gone")


def test_a_removed_task_is_gone_however_deep_its_directories_are(shared: Daemon):
    deep = "import os\nfor _ in range(1500): os.mkdir('d'); os.chdir('d')\nos.chmod('.', 0)"
    task_id = shared.wait(shared.submit("python3", "-c", deep))["taskId"]
    assert shared.http.delete(f"/v1/tasks/{task_id}").json() == {"success": True}
    wait_for(lambda: not (shared.state_dir / "tasks" / task_id).exists(), "its directory is gone")
    tasks = shared.state_dir / "tasks"
    wait_for(lambda: not [name for name in os.listdir(tasks) if name[0] == "."], "nothing is left of it")


def test_an_active_task_is_gone_from_lists_at_once_and_really_stopped(shared: Daemon):
    task_id = running(shared, before="trap : TERM", graceSeconds=0.3)
    assert shared.http.delete(f"/v1/tasks/{task_id}").json() == {"success": True}
    assert task_id not in ids(shared)
    assert shared.http.get(f"/v1/tasks/{task_id}").status_code == 404
    wait_for(lambda: not shared.alive(task_id), "nothing of it lives")
    wait_for(lambda: not (shared.state_dir / "tasks" / task_id).exists(), "its directory is gone")


def test_a_removal_is_finished_by_the_next_daemon(daemon: Daemon):
    task_id = running(daemon, before="trap : TERM", graceSeconds=1)
    daemon.http.delete(f"/v1/tasks/{task_id}")
    daemon.restart()
    assert ids(daemon) == []
    assert daemon.http.get(f"/v1/tasks/{task_id}").status_code == 404
    wait_for(lambda: not daemon.alive(task_id), "nothing of it lives")
    wait_for(lambda: os.listdir(daemon.state_dir / "tasks") == [], "its directory is gone")


# -- the node


def test_a_limit_on_running_tasks_and_what_the_others_wait_for(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(max_running=1).start()
    first = running(daemon)
    second, third = daemon.submit("true"), daemon.submit("true")
    for task_id in (second, third):
        task = daemon.task(task_id)
        assert (task["state"], task["startedAt"]) == ("pending", None)
        assert "1 of 1 tasks" in task["pendingReason"]
    assert daemon.task(first)["pendingReason"] is None
    node = daemon.http.get("/v1/node").json()
    assert (node["maxRunning"], node["states"]["running"], node["states"]["pending"]) == (1, 1, 2)
    # one that waits can be stopped, and removed, without ever having run
    assert daemon.post(f"/v1/tasks/{third}/stop").json()["outcome"] == "cancelled"
    assert daemon.task(third)["startedAt"] is None
    (daemon.work(first) / "go").touch()
    assert daemon.wait(second)["outcome"] == "succeeded"
    assert ids(daemon, state="exited") == [first, second, third]
    assert not (daemon.state_dir / "tasks" / third).exists()


def test_a_drained_node_starts_nothing_until_it_is_undrained(daemon: Daemon):
    active = running(daemon)
    assert daemon.post("/v1/node/drain").json()["draining"] is True
    waiting, unwanted = daemon.submit("true"), daemon.submit("true")
    assert "draining" in daemon.task(waiting)["pendingReason"]
    assert daemon.http.delete(f"/v1/tasks/{unwanted}").json() == {"success": True}
    (daemon.work(active) / "go").touch()
    assert daemon.wait(active)["outcome"] == "succeeded"
    assert daemon.task(waiting)["state"] == "pending"
    assert daemon.post("/v1/node/undrain").json()["draining"] is False
    assert daemon.wait(waiting)["outcome"] == "succeeded"
    assert ids(daemon) == [active, waiting]


def test_the_small_routes(shared: Daemon):
    get = shared.http.get
    assert get("/health").json() == {"status": "ok"}
    assert get("/ready").json() == {"status": "ready"}
    assert get("/").json()["apis"][0]["root"] == "/v1"
    assert get("/v1").json() == get("/v1/").json() == {"success": True}
    node = get("/v1/node").json()
    assert (node["version"], node["draining"], node["ready"], node["storage"]["ok"]) == (__version__, False, True, True)


def test_the_description_lists_every_route(shared: Daemon):
    described = shared.http.get("/v1/openapi.json").json()
    assert described["openapi"].startswith("3.1")
    for route in v1.routes:
        if route.doc is not None:  # which may be without one: test_openapi.py
            assert (route.methods or set()) - {"HEAD"} <= {name.upper() for name in described["paths"][route.path_format]}
    assert described["components"]["schemas"]["Spec"]["properties"]["actions"]
    schema = shared.http.get("/v1/schema").json()
    assert schema["/"]
    assert "command" in schema["x-machines"]["process"]["properties"]


def test_metrics(shared: Daemon):
    shared.wait(shared.submit("true"))
    shared.wait(shared.submit("false"))
    response = shared.http.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain")
    values = dict(line.rsplit(" ", 1) for line in response.text.splitlines() if line and line[0] != "#")
    assert float(values["task_runner_up"]) == 1
    assert float(values["task_runner_storage_ok"]) == 1
    assert float(values['task_runner_tasks_ended_total{origin="v1",outcome="succeeded"}']) >= 1
    assert float(values['task_runner_tasks_ended_total{origin="v1",outcome="failed"}']) >= 1
    assert 'task_runner_tasks{state="running"}' in values


# -- the last activity


def test_the_last_activity_is_the_last_output_and_not_the_heartbeat(daemon: Daemon):
    silent = running(daemon)
    talking = running(daemon, f"echo word; {UNTIL_GO}")
    log = daemon.state_dir / "tasks" / talking / "output.log"
    wait_for(lambda: log.stat().st_size == 5, "it has written")
    written = log.stat().st_mtime
    lock = daemon.state_dir / "tasks" / talking / "lock"
    beat = lock.read_text()
    wait_for(lambda: lock.read_text() != beat, "its runner has given a sign of life since")
    for _ in range(2):
        task = daemon.task(talking)
        assert instant(task["lastActivityAt"]) == pytest.approx(written, abs=0.001)
        assert task["output"]["bytes"] == 5
        task = daemon.task(silent)
        assert task["lastActivityAt"] == task["startedAt"]
        assert task["output"]["bytes"] == 0
        daemon.restart()
    for task_id in (silent, talking):
        (daemon.work(task_id) / "go").touch()
    task = daemon.wait(talking)
    assert instant(task["lastActivityAt"]) == pytest.approx(written, abs=0.001)
    task = daemon.wait(silent)
    assert task["lastActivityAt"] == task["startedAt"]


def test_a_task_that_waits_has_no_activity(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon().start()
    daemon.post("/v1/node/drain")
    task = daemon.task(daemon.submit("true"))
    assert (task["state"], task["lastActivityAt"], task["output"], task["usage"]) == ("pending", None, None, None)
