"""Another name for a task: nobody else's while the task is kept, and found again after everything."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from conftest import Daemon, verb, wait_for

SUBMIT = {"command": ["true"]}


def named(daemon: Daemon, alias: str) -> list[dict]:
    return daemon.http.get("/v1/tasks", params={"alias": alias}).json()


def test_a_task_is_found_by_its_alias(shared: Daemon):
    task_id = shared.submit("true", alias="nightly")
    assert [task["taskId"] for task in named(shared, "nightly")] == [task_id]
    assert shared.wait(task_id)["alias"] == "nightly"
    assert [task["taskId"] for task in named(shared, "nightly")] == [task_id]
    assert named(shared, "another") == []


def test_no_two_tasks_have_the_same_alias(shared: Daemon):
    first = shared.submit("true", alias="once")
    shared.wait(first)
    refused = shared.post("/v1/tasks", {**SUBMIT, "alias": "once"})
    assert (refused.status_code, first in refused.json()["detail"]) == (409, True)


def test_of_many_requests_at_once_one_gets_the_alias(shared: Daemon):
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: shared.post("/v1/tasks", {**SUBMIT, "alias": "race"}).status_code, range(8)))
    assert sorted(answers) == [201] + [409] * 7


def test_an_alias_is_free_as_soon_as_its_task_is_deleted(shared: Daemon):
    first = shared.submit("sh", "-c", "trap '' TERM; sleep 600", alias="again", graceSeconds=0.2)
    shared.wait_state(first, "running")
    assert shared.http.delete(f"/v1/tasks/{first}").status_code == 200
    second = shared.submit("true", alias="again")
    assert [task["taskId"] for task in named(shared, "again")] == [second]
    wait_for(lambda: not os.path.exists(shared.state.tasks.path + f"/{first}"), "the first is gone")
    assert [task["taskId"] for task in named(shared, "again")] == [second]


def test_names_of_other_interfaces_are_not_given_here(shared: Daemon):
    assert "colon" in shared.refusal(**SUBMIT, alias="drove:APP/T1")["alias"]


def test_a_batch_in_which_an_alias_stands_twice_is_refused_whole(shared: Daemon):
    tasks = [{**SUBMIT, "alias": alias} for alias in ("one", "two", "one")]
    refused = shared.post("/v1/batches", {"tasks": tasks})
    assert [each["field"] for each in refused.json()["errors"]] == ["tasks.2.alias"]
    assert named(shared, "two") == []


def test_tasks_are_listed_by_origin(shared: Daemon):
    task_id = shared.submit("true")
    listed = shared.http.get("/v1/tasks", params={"origin": "v1", "order": "desc"}).json()
    assert task_id in [task["taskId"] for task in listed]
    assert shared.http.get("/v1/tasks", params={"origin": "drove"}).json() == []


def test_an_alias_survives_a_restart_and_a_lost_store(daemon: Daemon):
    task_id = daemon.submit("true", alias="kept")
    daemon.wait(task_id)
    daemon.restart()
    assert [task["taskId"] for task in named(daemon, "kept")] == [task_id]
    daemon.kill()
    for extra in ("", "-wal", "-shm"):
        if os.path.exists(daemon.state.database + extra):
            os.unlink(daemon.state.database + extra)
    verb(daemon, "fsck", "--rebuild")
    daemon.start()
    assert [task["taskId"] for task in named(daemon, "kept")] == [task_id]
    assert daemon.post("/v1/tasks", {**SUBMIT, "alias": "kept"}).status_code == 409


def test_an_alias_of_any_text_is_found_again_and_what_is_no_text_is_refused(shared: Daemon):
    for alias in ("snow \N{SNOWMAN}/%2F?&#", "a' OR 1=1 --", "x" * 600, "\N{PILE OF POO}", " blank ", "%", "_"):
        task_id = shared.submit("true", alias=alias)
        assert [task["taskId"] for task in named(shared, alias)] == [task_id], alias
    for alias in ("", "x" * 601, "a\nb", "a\0", 5, ["a"]):
        assert "alias" in shared.refusal(**SUBMIT, alias=alias), alias
    half = shared.post("/v1/tasks", content=b'{"command": ["true"], "alias": "\\ud800"}',
                       headers={"Content-Type": "application/json"})  # fmt: skip
    assert half.status_code in (201, 400)
    assert shared.http.get("/ready").status_code == 200


def test_a_name_of_an_interface_cannot_be_taken_from_it_by_any_spelling(shared: Daemon):
    for alias in ("executor:x", "i3d:", ":x", "drove:A:B", "v2:a"):
        assert "colon" in shared.refusal(**SUBMIT, alias=alias)["alias"]
        batch = shared.post("/v1/batches", {"tasks": [SUBMIT, {**SUBMIT, "alias": alias}]})
        assert [each["field"] for each in batch.json()["errors"]] == ["tasks.1.alias"]
