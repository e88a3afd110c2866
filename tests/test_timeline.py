"""GET /v1/timeline: what ran when."""

from __future__ import annotations

import asyncio
import json
import re
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from conftest import Daemon, wait_for

from task_runner.client import Client
from task_runner.service import timeline
from task_runner.service.statements import BEGAN
from task_runner.service.store import Store
from task_runner.service.timeline import COLUMNS, Run, Span, earlier, runs

INDEXES = ("tasks_began", "tasks_finished")
HOUR = "2030-01-01T{:02}:00:00.000000Z"


def rows(daemon: Daemon, **query: Any) -> list[dict[str, Any]]:
    found = shown(daemon, **query)
    return [dict(zip(COLUMNS, row, strict=True)) for row in zip(*(found[name] for name in COLUMNS), strict=True)]


def shown(daemon: Daemon, **query: Any) -> dict[str, Any]:
    answer = daemon.http.get("/v1/timeline", params={name.rstrip("_"): value for name, value in query.items()})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


# -- from a daemon


def test_each_attempt_is_there_with_its_times(daemon: Daemon):
    over = daemon.submit("true", name="over", entity="e1")
    status = daemon.wait(over)
    batch = daemon.post("/v1/batches", {"tasks": [{"command": ["false"], "retry": {"count": 1, "delaySeconds": 0, "jitter": 0}}]})
    retried = daemon.http.get(f"/v1/tasks?batch={batch.json()['batchId']}").json()[0]["taskId"]
    daemon.wait(retried)
    live = daemon.submit("sleep", "1000")
    daemon.wait_state(live, "running")
    never = daemon.submit("true", executeAt="2099-01-01T00:00:00Z")
    found = rows(daemon)
    assert [(row["taskId"], row["attempt"]) for row in found] == [(live, 1), (retried, 2), (retried, 1), (over, 1)]
    assert never not in [row["taskId"] for row in found]
    by = {(row["taskId"], row["attempt"]): row for row in found}
    assert by[over, 1] == {
        "taskId": over, "name": "over", "batch": None, "entity": "e1", "state": "exited", "outcome": "succeeded",
        "startedAt": status["startedAt"], "finishedAt": status["finishedAt"], "attempt": 1,
    }  # fmt: skip
    assert (by[live, 1]["state"], by[live, 1]["outcome"], by[live, 1]["finishedAt"]) == ("running", None, None)
    assert {by[retried, number]["outcome"] for number in (1, 2)} == {"failed"}
    assert by[retried, 1]["batch"] == batch.json()["batchId"]
    assert by[retried, 1]["startedAt"] <= by[retried, 1]["finishedAt"] <= by[retried, 2]["startedAt"]

    # one that is deleted is not there, before and after a restart
    daemon.http.delete(f"/v1/tasks/{over}")
    daemon.restart()
    daemon.wait_state(live, "running")
    found = rows(daemon)
    assert [(row["taskId"], row["attempt"]) for row in found] == [(live, 1), (retried, 2), (retried, 1)]
    daemon.http.delete(f"/v1/tasks/{live}")
    assert live not in [row["taskId"] for row in rows(daemon)]


def test_an_interval_is_met_by_what_ran_at_some_time_within_it(shared: Daemon):
    task_id = shared.submit("sleep", "0.3", name="slow")
    status = shared.wait(task_id)
    begin, end = status["startedAt"], status["finishedAt"]

    def meets(from_: str, to: str) -> bool:
        return task_id in [row["taskId"] for row in rows(shared, from_=from_, to=to)]

    middle = begin[:-4] + "999Z"
    assert all(meets(*span) for span in [(begin, end), (end, end), (begin, begin), (middle, middle), ("0", "4000000000")])
    later, earlier = end[:-1] + "+00:00", begin[:-1] + "+00:00"
    assert meets(later, later)
    assert meets(earlier, earlier)
    assert not meets("2000-01-01T00:00:00Z", "2000-01-02T00:00:00Z")
    assert not meets("2090-01-01T00:00:00Z", "2090-01-02T00:00:00Z")


def test_the_interval_is_the_last_hour_if_nothing_is_said(shared: Daemon):
    found = shown(shared)
    assert re.match(r"\d{4}-.*Z", found["from"])
    assert found["from"] < found["to"]
    assert shown(shared, to="7200")["from"] == "1970-01-01T01:00:00.000000Z"


def test_what_is_too_much_is_cut_and_said(shared: Daemon):
    made = [shared.submit("true") for _ in range(4)]
    for each in made:
        shared.wait(each)
    whole = shown(shared, from_=0)
    count = len(whole["taskId"])
    assert count >= 4
    assert whole["more"] is False
    for limit in (1, 3, count - 1):
        cut = shown(shared, from_=0, limit=limit)
        assert (len(cut["taskId"]), cut["more"]) == (limit, True)
        assert cut["taskId"] == whole["taskId"][:limit]
    assert shown(shared, from_=0, limit=count)["more"] is False


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=20001", "limit"), ("limit=x", "limit"), ("from=x", "from"), ("to=x", "to"), ("from=", "from"),
        ("to=2030-01-01", "to"), ("from=nan", "from"), ("to=inf", "to"), ("from=-1", "from"), ("to=1e300", "to"),
        ("from=2&to=1", "from"), ("since=1", "since"), ("from=" + "9" * 5000, "from"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(shared: Daemon, query: str, field: str):
    answer = shared.http.get(f"/v1/timeline?{query}")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (400, field)


def test_the_client_has_both(shared: Daemon):
    task_id = shared.submit("true")
    shared.wait(task_id)
    with Client(shared.url, token=shared.token) as client:
        found = client.timeline("2020-01-01T00:00:00Z", limit=1)
        assert (found["taskId"], found["more"]) == ([task_id], True) or len(found["taskId"]) == 1
        assert client.timeline(end="2020-01-01T00:00:00Z")["taskId"] == []
        wait_for(lambda: client.history(1)["at"], "a sample")


# -- attempts


def test_an_attempt_is_told_once():
    past = earlier(1, HOUR.format(1), HOUR.format(2), "lost")
    last = Run(attempt=2, started=HOUR.format(3), finished=None, outcome=None, state="running")
    assert [(run.attempt, run.state) for run in runs([past], last)] == [(1, "lost"), (2, "running")]
    # one that waits for its second attempt still has the status of its first
    first = Run(attempt=1, started=HOUR.format(1), finished=None, outcome=None, state="pending")
    assert runs([earlier(1, HOUR.format(1), HOUR.format(2), "failed")], first)[0].state == "exited"
    assert len(runs([past], first)) == 1


# -- the store


def filled(tmp_path: Path, count: int) -> Store:
    """A store with tasks of a minute each, one a minute, and one of three days at the begin."""
    store = Store(str(tmp_path / "tasks.db"))
    store.open()
    with sqlite3.connect(store.path) as db:
        for number in range(count):
            begin = f"2030-01-{1 + number // 1440:02}T{number // 60 % 24:02}:{number % 60:02}:00.000000Z"
            end = "2030-01-04T00:00:00.000000Z" if number == 0 else begin.replace(":00.", ":59.")
            record = {"state": "exited", "outcome": "failed", "status": {"startedAt": begin, "finishedAt": end}}
            db.execute(
                "INSERT INTO tasks (id, state, outcome, tags, created_at, finished_at, spec, record) VALUES (?, 'exited', 'failed', '', ?, ?, '{}', ?)",
                (f"t{number}", begin, end, json.dumps(record)),
            )
    return store


class _Book:
    """What a timeline asks of one."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.active: dict[str, Any] = {}


@pytest.mark.parametrize("few", [0, 1_000_000])
def test_what_began_before_the_interval_and_lasted_into_it_is_found(
    tmp_path: Path, few: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(timeline, "_FEW", few)  # by one index, and by the other
    store = filled(tmp_path, 3 * 1440)
    try:
        span = Span(begin="2030-01-02T12:00:00.000000Z", end="2030-01-02T12:04:30.000000Z")
        found = asyncio.run(timeline.timeline(_Book(store), span, 100))  # type: ignore[arg-type]
        noon = 1440 + 720
        assert found["taskId"] == [*(f"t{number}" for number in range(noon + 4, noon - 1, -1)), "t0"]
        for limit in (5, 3):
            cut = asyncio.run(timeline.timeline(_Book(store), span, limit))  # type: ignore[arg-type]
            assert (cut["taskId"], cut["more"]) == (found["taskId"][:limit], True)
    finally:
        store.close()


def again(store: Store, task_id: str, *attempts: tuple[str, str]) -> None:
    """A task whose attempts were at these times: days and times of one month."""
    times = [[f"2030-01-{each}.000000Z" for each in attempt] for attempt in attempts]
    previous = [
        {"attempt": number, "outcome": "failed", "startedAt": begin, "finishedAt": end}
        for number, (begin, end) in enumerate(times[:-1], 1)
    ]
    begin, end = times[-1]
    status = {"attempt": len(times), "startedAt": begin, "finishedAt": end}
    record = {"state": "exited", "outcome": "failed", "status": status, "previous": previous}
    with sqlite3.connect(store.path) as db:
        db.execute(
            "INSERT INTO tasks (id, state, outcome, tags, created_at, finished_at, spec, record) VALUES (?, 'exited', 'failed', '', ?, ?, '{}', ?)",
            (task_id, begin, end, json.dumps(record)),
        )


@pytest.mark.parametrize("few", [0, 1_000_000])
def test_a_limit_leaves_the_attempts_that_started_last_whenever_their_task_first_began(
    tmp_path: Path, few: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(timeline, "_FEW", few)
    store = filled(tmp_path, 3 * 1440)
    try:
        with sqlite3.connect(store.path) as db:
            db.execute("UPDATE tasks SET record = '{' WHERE id = 't5'")  # a damaged one costs no other
        again(store, "early", ("01T01:00:00", "01T02:00:00"), ("02T12:03:10", "02T12:05:00"))
        again(store, "within", ("02T12:00:10", "02T12:01:00"), ("02T12:02:10", "02T12:04:00"))
        again(store, "waited", ("01T01:00:00", "01T02:00:00"), ("03T12:00:00", "03T12:05:00"))
        span = Span(begin="2030-01-02T12:00:00.000000Z", end="2030-01-02T12:04:30.000000Z")
        t0, t1, t2, t3, t4 = ((f"t{1440 + 720 + minute}", 1) for minute in range(5))
        right = [t4, ("early", 2), t3, ("within", 2), t2, t1, ("within", 1), t0, ("t0", 1)]
        for limit in range(1, len(right) + 2):
            found = asyncio.run(timeline.timeline(_Book(store), span, limit))  # type: ignore[arg-type]
            told = [*zip(found["taskId"], found["attempt"], strict=True)]
            assert (told, found["more"]) == (right[:limit], limit < len(right))
    finally:
        store.close()


def test_the_store_looks_into_an_index_and_not_at_every_task(tmp_path: Path):
    store = filled(tmp_path, 1)
    span = Span(begin=HOUR.format(1), end=HOUR.format(2))
    try:
        looks = [timeline.begun_within(span, 10)]
        for index in INDEXES:
            looks += [timeline.lasted_until(span.begin, 10, index), timeline.retried_until(span.begin, index)]
        for sql, values in looks:
            plan = " ".join(row[3] for row in store.read((f"EXPLAIN QUERY PLAN {sql}", values)))
            assert "USING INDEX tasks_" in plan, plan
            assert "SCAN" not in plan, plan
        assert BEGAN in timeline.begun_within(span, 1)[0]
    finally:
        store.close()
