"""Batches: accepted whole or not at all, counted truly, controlled together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import Daemon, wait_for

UNTIL_GO = ["sh", "-c", "while [ ! -e go ]; do sleep 0.1; done"]


def batch(daemon: Daemon, batch_id: str, wait: int = 0) -> dict[str, Any]:
    response = daemon.http.get(f"/v1/batches/{batch_id}", params={"wait": wait})
    assert response.status_code == 200, response.text
    return dict(response.json())


def finished(daemon: Daemon, batch_id: str) -> dict[str, Any]:
    return dict(wait_for(lambda: (b := batch(daemon, batch_id, 5))["finishedAt"] and b, "the batch is over"))


def create(daemon: Daemon, **body: Any) -> dict[str, Any]:
    response = daemon.post("/v1/batches", body)
    assert response.status_code == 201, response.text
    return dict(response.json())
SETTINGS = {"max_running": 8}


def newest(daemon: Daemon) -> list[str]:
    """The id of the task that was accepted last."""
    return [task["taskId"] for task in daemon.http.get("/v1/tasks", params={"order": "desc", "limit": 1}).json()]


def refusal(daemon: Daemon, **body: Any) -> list[tuple[str, str]]:
    before = newest(daemon)
    response = daemon.post("/v1/batches", body)
    assert response.status_code == 400, response.text
    assert newest(daemon) == before
    return [(each["field"], each["message"]) for each in response.json()["errors"]]


def test_endings_are_counted(shared: Daemon) -> None:
    made = create(shared, tasks=[{"command": ["true"]}, {"command": ["false"]}, {"command": ["true"]}], name="three")
    assert (made["numTasks"], len(made["tasks"]), made["name"]) == (3, 3, "three")
    over = finished(shared, made["batchId"])
    assert (over["numTasksOk"], over["numTasksFailed"], over["numTasksCancelled"]) == (2, 1, 0)
    assert over["states"] == {}


def test_results_tell_of_each_task_in_order(shared: Daemon) -> None:
    made = create(shared, tasks=[{"shell": f"exit {n}", "name": f"n{n}"} for n in (0, 3)])
    finished(shared, made["batchId"])
    results = shared.http.get(f"/v1/batches/{made['batchId']}/results").json()
    assert [(each["taskId"], each["name"], each["exitCode"]) for each in results] == [
        (made["tasks"][0], "n0", 0),
        (made["tasks"][1], "n3", 3),
    ]


def test_one_task_for_every_entity(shared: Daemon) -> None:
    shell = 'printf "$TASK_RUNNER_ENTITY $TASK_RUNNER_BATCH"'
    made = create(shared, task={"shell": shell}, entities=["gs-1", "gs-2"])
    finished(shared, made["batchId"])
    tasks = shared.http.get("/v1/tasks", params={"batch": made["batchId"]}).json()
    assert [task["entity"] for task in tasks] == ["gs-1", "gs-2"]
    assert shared.output(tasks[1]["taskId"]) == f"gs-2 {made['batchId']}".encode()


def test_a_bad_task_refuses_all(shared: Daemon) -> None:
    assert refusal(shared, tasks=[{"command": ["true"]}, {"comand": ["true"]}])[0][0] == "tasks.1.comand"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, ""),
        ({"tasks": []}, "tasks"),
        ({"tasks": [{"command": ["true"]}], "task": {"command": ["true"]}, "entities": ["a"]}, ""),
        ({"task": {"command": ["true"]}}, "entities"),
        ({"task": {"command": ["true"]}, "entities": ["a", "a"]}, "entities.1"),
        ({"task": {"command": ["true"], "entity": "b"}, "entities": ["a"]}, "task.entity"),
        ({"tasks": [{"command": ["true"]}], "title": "x"}, "title"),
        ({"tasks": [{"command": ["true"]}] * 10_001}, "tasks"),
        ({"tasks": ["true"]}, "tasks.0"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(shared: Daemon, body: dict[str, Any], field: str) -> None:
    assert refusal(shared, **body)[0][0] == field


def test_ten_thousand_tasks_are_one_request(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon().start()
    assert daemon.post("/v1/node/drain").status_code == 200
    made = create(daemon, tasks=[{"command": ["true"]}] * 10_000)
    assert len(set(made["tasks"])) == 10_000
    stopped = daemon.post(f"/v1/batches/{made['batchId']}/stop").json()
    assert (stopped["numTasksCancelled"], stopped["states"]) == (10_000, {})


def test_names_within_a_batch_order_it(shared: Daemon) -> None:
    made = create(
        shared,
        tasks=[
            {"command": ["true"], "name": "last", "after": [{"task": "first"}]},
            {"command": ["true"], "name": "first"},
        ],
    )
    finished(shared, made["batchId"])
    last, first = (shared.task(task_id) for task_id in made["tasks"])
    assert first["finishedAt"] <= last["startedAt"]
    assert last["spec"]["after"] == [{"task": first["taskId"]}]


def test_tasks_that_wait_for_each_other_are_refused(shared: Daemon) -> None:
    faults = refusal(
        shared,
        tasks=[
            {"command": ["true"], "name": "a", "after": [{"task": "b"}]},
            {"command": ["true"], "name": "b", "after": [{"task": "a"}]},
        ],
    )
    assert faults == [("tasks.0.after", "it would wait for itself: tasks.0 waits for tasks.1 waits for tasks.0")]


def test_the_line_of_an_entity_counts_as_waiting(shared: Daemon) -> None:
    faults = refusal(
        shared,
        tasks=[
            {"command": ["true"], "entity": "x", "after": [{"task": "b"}]},
            {"command": ["true"], "name": "b", "entity": "x"},
        ],
    )
    assert "would wait for itself" in faults[0][1]


def test_a_name_that_stands_twice_cannot_be_waited_for(shared: Daemon) -> None:
    twice = {"command": ["true"], "name": "b"}
    faults = refusal(shared, tasks=[{"command": ["true"], "after": [{"task": "b"}]}, twice, twice])
    assert faults == [("tasks.0.after.0.task", "two tasks here are named 'b'")]


def test_a_stop_ends_all_of_it(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(max_running=2).start()
    made = create(daemon, tasks=[{"command": UNTIL_GO}] * 5)
    wait_for(lambda: batch(daemon, made["batchId"])["states"].get("running") == 2, "two run")
    daemon.post(f"/v1/batches/{made['batchId']}/stop", {"graceSeconds": 5})
    assert finished(daemon, made["batchId"])["numTasksCancelled"] == 5
    assert not any(daemon.alive(task_id) for task_id in made["tasks"])


def test_a_pause_freezes_what_runs_and_holds_what_waits_even_over_a_restart(
    make_daemon: Callable[..., Daemon],
) -> None:
    daemon = make_daemon(max_running=1).start()
    made = create(daemon, tasks=[{"command": UNTIL_GO}, {"command": ["true"]}])
    first, second = made["tasks"]
    daemon.wait_state(first, "running")
    paused = daemon.post(f"/v1/batches/{made['batchId']}/pause").json()
    assert paused["paused"]
    daemon.wait_state(first, "paused")
    daemon.restart()
    daemon.wait_state(first, "paused")
    daemon.post(f"/v1/tasks/{first}/stop")
    daemon.wait(first)
    assert daemon.task(second)["pendingReason"] == "its batch is paused"
    assert not daemon.post(f"/v1/batches/{made['batchId']}/resume").json()["paused"]
    assert daemon.wait(second)["outcome"] == "succeeded"


def test_the_same_key_makes_the_same_batch(shared: Daemon) -> None:
    body = {"tasks": [{"command": ["true"]}, {"command": ["true"]}]}
    headers = {"Idempotency-Key": "batch-1"}
    first = shared.post("/v1/batches", body, headers=headers)
    again = shared.post("/v1/batches", body, headers=headers)
    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["batchId"] == first.json()["batchId"]
    other = shared.post("/v1/batches", {"tasks": body["tasks"][:1]}, headers=headers)
    assert other.status_code == 409
    task = shared.post("/v1/tasks", body["tasks"][0], headers=headers)
    assert task.status_code == 409


def test_removed_tasks_stay_counted(shared: Daemon) -> None:
    made = create(shared, tasks=[{"command": ["true"]}, {"command": ["false"]}])
    over = finished(shared, made["batchId"])
    for task_id in made["tasks"]:
        assert shared.http.delete(f"/v1/tasks/{task_id}").status_code == 200
    wait_for(lambda: shared.http.get(f"/v1/batches/{made['batchId']}/results").json() == [], "they are gone")
    wait_for(lambda: batch(shared, made["batchId"]) == over, "the counts are as before")


def test_a_batch_goes_after_the_last_of_its_tasks(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(keep_finished_seconds=0.5).start()
    made = create(daemon, tasks=[{"command": ["true"]}, {"command": ["true"]}])
    wait_for(lambda: daemon.http.get(f"/v1/batches/{made['batchId']}").status_code == 404, "it is gone")
    assert all(daemon.http.get(f"/v1/tasks/{task_id}").status_code == 404 for task_id in made["tasks"])


def test_batches_are_listed_newest_first(shared: Daemon) -> None:
    ids = [create(shared, tasks=[{"command": ["true"]}])["batchId"] for _ in range(2)]
    listed = shared.http.get("/v1/batches", params={"limit": 2}).json()
    assert [each["batchId"] for each in listed] == ids[::-1]


def test_the_list_of_batches_has_pages(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon().start()
    ids = [create(daemon, tasks=[{"command": ["true"]}])["batchId"] for _ in range(3)]
    first = daemon.http.get("/v1/batches", params={"limit": 2})
    create(daemon, tasks=[{"command": ["true"]}])  # what comes meanwhile does not move the next page
    second = daemon.http.get(first.links["next"]["url"])
    assert [each["batchId"] for each in first.json() + second.json()] == ids[::-1]
    assert "next" not in second.links
    assert daemon.http.get("/v1/batches", params={"cursor": "x"}).status_code == 400


def test_an_unknown_batch_is_not_found(shared: Daemon) -> None:
    for path in ("", "/results"):
        assert shared.http.get(f"/v1/batches/0123456789abcdef{path}").status_code == 404
    for verb in ("stop", "pause", "resume"):
        assert shared.post(f"/v1/batches/0123456789abcdef/{verb}").status_code == 404


def test_a_batch_is_there_whole_after_a_crash(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(max_running=4).start()
    made = create(daemon, tasks=[{"command": ["true"]}] * 40)
    daemon.restart()
    over = finished(daemon, made["batchId"])
    assert (over["numTasks"], over["numTasksOk"]) == (40, 40)
