"""Which task runs when, as a client sees it: time, entities, dependencies, pools, priority."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from conftest import Daemon, wait_for

UNTIL_GO = "while [ ! -e go ]; do sleep 0.1; done"
SETTINGS = {"pools": '{"licences": 1}', "cpus": 4, "memory_mb": 1000, "gpus": 2}


def held(daemon: Daemon, **more: Any) -> str:
    """A task that runs until it is let go."""
    task_id = daemon.submit(shell=UNTIL_GO, **more)
    daemon.wait_state(task_id, "running")
    return task_id


def let_go(daemon: Daemon, task_id: str) -> dict[str, Any]:
    (daemon.state_dir / "tasks" / task_id / "work" / "go").touch()
    return daemon.wait(task_id)


def reason(daemon: Daemon, task_id: str) -> str:
    return str(wait_for(lambda: daemon.task(task_id)["pendingReason"], "it says what it waits for"))


def refused(daemon: Daemon, status: int = 400, **body: Any) -> dict[str, Any]:
    response = daemon.post("/v1/tasks", {"command": ["true"], **body})
    assert response.status_code == status, response.text
    return dict(response.json())


# -- time


def test_a_task_runs_at_its_time_and_not_before(shared: Daemon) -> None:
    soon, far = time.time() + 1.5, time.time() + 3600
    task_id, waiting = shared.submit("true", executeAt=soon), shared.submit("true", executeAt=far)
    task = shared.task(waiting)
    at = datetime.fromisoformat(task["executeAt"]).timestamp()
    assert (task["state"], at) == ("scheduled", pytest.approx(far, rel=0, abs=1e-3))
    assert task["executeAt"] in task["pendingReason"]
    task = shared.wait(task_id)
    assert datetime.fromisoformat(task["startedAt"]).timestamp() >= soon
    assert shared.task(waiting)["state"] == "scheduled"
    assert shared.post(f"/v1/tasks/{waiting}/stop").json()["outcome"] == "cancelled"


@pytest.mark.parametrize("at", [0, None, 1.0, "2001-01-01T00:00:00+01:00", "2001-01-01T00:00:00Z"])
def test_now_and_the_past_mean_at_once(shared: Daemon, at: Any) -> None:
    assert shared.wait(shared.submit("true", executeAt=at))["outcome"] == "succeeded"


@pytest.mark.parametrize("at", ["soon", "2030-01-01T00:00:00", -1, 1e18, True, [], "2030-13-01T00:00:00Z"])
def test_a_time_that_makes_no_sense_is_refused(shared: Daemon, at: Any) -> None:
    assert refused(shared, executeAt=at)["errors"][0]["field"] == "executeAt"


def test_a_scheduled_task_is_late_rather_than_lost(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon().start()
    task_id = daemon.submit("true", executeAt=time.time() + 0.5)
    daemon.kill()
    due = time.time() + 0.5
    wait_for(lambda: time.time() > due, "its time has passed")
    daemon.restart()
    assert daemon.wait(task_id)["outcome"] == "succeeded"


def test_a_scheduled_task_can_be_given_another_time(shared: Daemon) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    task_id = shared.submit("true", executeAt=tomorrow)
    later = (datetime.now(UTC) + timedelta(days=2)).isoformat()
    changed = shared.http.patch(f"/v1/tasks/{task_id}", json={"executeAt": later}).json()
    assert changed["state"] == "scheduled"
    assert datetime.fromisoformat(changed["executeAt"]) == datetime.fromisoformat(later)
    assert shared.http.patch(f"/v1/tasks/{task_id}", json={"executeAt": None}).status_code == 200
    assert shared.wait(task_id)["outcome"] == "succeeded"
    response = shared.http.patch(f"/v1/tasks/{task_id}", json={"executeAt": None})
    assert (response.status_code, "only before it starts" in response.json()["detail"]) == (409, True)


@pytest.mark.parametrize("body", [{}, {"executeAt": "soon"}, {"executeAt": True}, {"name": "x"}])
def test_a_change_that_makes_no_sense_is_refused(shared: Daemon, body: dict[str, Any]) -> None:
    task_id = shared.submit("true", executeAt=time.time() + 3600)
    response = shared.http.patch(f"/v1/tasks/{task_id}", json=body)
    assert (response.status_code, bool(response.json()["errors"][0]["field"])) == (400, True)
    assert shared.post(f"/v1/tasks/{task_id}/stop").json()["outcome"] == "cancelled"


def test_a_pending_task_can_be_put_off(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(max_running=1).start()
    first = held(daemon)
    second = daemon.submit("true")
    later = time.time() + 3600
    assert daemon.http.patch(f"/v1/tasks/{second}", json={"executeAt": later}).json()["state"] == "scheduled"
    let_go(daemon, first)
    assert daemon.task(second)["state"] == "scheduled"


# -- entities


def test_tasks_of_an_entity_run_one_at_a_time_in_order(shared: Daemon) -> None:
    first = held(shared, entity="gs-1")
    second = shared.submit("true", entity="gs-1", priority=100)
    third = shared.submit("true", entity="gs-1")
    other = shared.submit("true", entity="gs-2")
    assert shared.wait(other)["outcome"] == "succeeded"
    assert reason(shared, second) == f"entity gs-1 is busy with task {first}"
    let_go(shared, first)
    ends = [shared.wait(task_id) for task_id in (second, third)]
    assert ends[0]["finishedAt"] <= ends[1]["startedAt"]


def test_a_paused_task_keeps_its_entity(shared: Daemon) -> None:
    first = held(shared, entity="gs-3")
    second = shared.submit("true", entity="gs-3")
    shared.post(f"/v1/tasks/{first}/pause")
    shared.wait_state(first, "paused")
    assert reason(shared, second) == f"entity gs-3 is busy with task {first}"
    shared.post(f"/v1/tasks/{first}/resume")
    let_go(shared, first)
    assert shared.wait(second)["outcome"] == "succeeded"


def test_an_entity_stays_busy_over_a_restart(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon().start()
    first = held(daemon, entity="x")
    second = daemon.submit("true", entity="x")
    daemon.restart()
    assert reason(daemon, second) == f"entity x is busy with task {first}"
    let_go(daemon, first)
    assert daemon.wait(second)["outcome"] == "succeeded"


# -- dependencies


def test_a_task_waits_for_another_to_succeed(shared: Daemon) -> None:
    first = held(shared)
    second = shared.submit("true", after=[{"task": first}])
    assert first in reason(shared, second)
    ended = let_go(shared, first)
    assert shared.wait(second)["startedAt"] >= ended["finishedAt"]


def test_a_dependant_of_a_failed_task_is_cancelled_with_the_reason_and_so_is_its_own(shared: Daemon) -> None:
    first = held(shared)
    second = shared.submit("true", after=[{"task": first}])
    third = shared.submit("true", after=[{"task": second}])
    fourth = shared.submit("true", after=[{"task": third, "on": "end"}])
    shared.post(f"/v1/tasks/{first}/stop")
    assert (ended := shared.wait(second))["outcome"] == "cancelled"
    assert first in ended["error"] and "cancelled" in ended["error"]
    assert second in shared.wait(third)["error"]
    assert shared.wait(fourth)["outcome"] == "succeeded"


@pytest.mark.parametrize(("command", "on", "outcome"), [("true", "success", "succeeded"), ("false", "success", "cancelled"), ("false", "end", "succeeded")])  # fmt: skip
def test_a_dependency_may_be_over_already(shared: Daemon, command: str, on: str, outcome: str) -> None:
    first = shared.submit(command)
    shared.wait(first)
    assert shared.wait(shared.submit("true", after=[{"task": first, "on": on}]))["outcome"] == outcome


def test_a_dependency_that_is_none_is_refused(shared: Daemon) -> None:
    fault = refused(shared, after=[{"task": "0123456789abcdef"}])["errors"][0]
    assert (fault["field"], "0123456789abcdef" in fault["message"]) == ("after.0.task", True)


def test_a_task_that_others_wait_for_is_not_deleted(shared: Daemon) -> None:
    first = held(shared)
    second = shared.submit("true", after=[{"task": first}])
    response = shared.http.delete(f"/v1/tasks/{first}")
    assert (response.status_code, second in response.json()["detail"]) == (409, True)
    let_go(shared, first)
    shared.wait(second)
    assert shared.http.delete(f"/v1/tasks/{first}").status_code == 200


def test_a_dependency_that_is_tried_again_is_not_over(shared: Daemon) -> None:
    line = "[ $TASK_RUNNER_ATTEMPT = 2 ]"
    first = shared.submit(shell=line, retry={"count": 1, "delaySeconds": 0.1})
    second = shared.submit("true", after=[{"task": first}])
    assert shared.wait(second)["outcome"] == "succeeded"
    assert shared.task(first)["attempt"] == 2


def test_dependencies_hold_over_a_restart(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon().start()
    first = held(daemon)
    second = daemon.submit("true", after=[{"task": first}])
    daemon.kill()
    (daemon.state_dir / "tasks" / first / "work" / "go").touch()
    daemon.restart()
    assert daemon.wait(second)["outcome"] == "succeeded"


# -- limits


def test_a_pool_has_so_many_places(shared: Daemon) -> None:
    first = held(shared, pools=["licences"])
    second = shared.submit("true", pools=["licences"])
    assert reason(shared, second) == "pool licences: 1 of 1 places are taken"
    let_go(shared, first)
    assert shared.wait(second)["outcome"] == "succeeded"


def test_an_unknown_pool_is_refused(shared: Daemon) -> None:
    fault = refused(shared, pools=["licence"])["errors"][0]
    assert (fault["field"], "licences" in fault["message"]) == ("pools.0", True)


@pytest.mark.parametrize(("resource", "amount"), [("cpus", 4.5), ("memoryMb", 1001), ("gpus", 3)])
def test_what_can_never_fit_is_refused(shared: Daemon, resource: str, amount: float) -> None:
    fault = refused(shared, resources={resource: amount})["errors"][0]
    assert fault["field"] == f"resources.{resource}"
    assert f"{amount:g}" in fault["message"]


def test_resources_are_counted_while_a_task_runs(shared: Daemon) -> None:
    first = held(shared, resources={"cpus": 3})
    second = shared.submit("true", resources={"cpus": 2})
    assert reason(shared, second) == "needs 2 CPUs, 1 free"
    let_go(shared, first)
    assert shared.wait(second)["outcome"] == "succeeded"


def test_the_node_says_what_there_is_and_what_is_free(shared: Daemon) -> None:
    first = held(shared, resources={"cpus": 1.5, "memoryMb": 300, "gpus": 1}, pools=["licences"])
    node = shared.http.get("/v1/node").json()
    assert node["capacity"] == {"tasks": None, "cpus": 4, "memoryMb": 1000, "gpus": 2, "pools": {"licences": 1}}
    assert node["free"] == {"tasks": None, "cpus": 2.5, "memoryMb": 700, "gpus": 1, "pools": {"licences": 0}}
    let_go(shared, first)
    wait_for(lambda: shared.http.get("/v1/node").json()["free"] == node["capacity"], "all is free again")


def test_graphics_processors_are_handed_out_by_index(shared: Daemon) -> None:
    line = f'echo "$CUDA_VISIBLE_DEVICES"; {UNTIL_GO}'
    ids = [shared.submit(shell=line, resources={"gpus": 1}) for _ in range(2)]
    third = shared.submit(shell='echo "$CUDA_VISIBLE_DEVICES"', resources={"gpus": 2})
    for task_id in ids:
        shared.wait_state(task_id, "running")
        wait_for(lambda task_id=task_id: shared.output(task_id), "it has said which")
    assert sorted(shared.output(task_id) for task_id in ids) == [b"0\n", b"1\n"]
    assert sorted(shared.task(task_id)["gpus"][0] for task_id in ids) == [0, 1]
    assert "2 GPUs" in reason(shared, third)
    for task_id in ids:
        let_go(shared, task_id)
    shared.wait(third)
    assert shared.output(third) == b"0,1\n"


def test_a_graphics_processor_stays_taken_over_a_restart(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(gpus=2).start()
    first = held(daemon, resources={"gpus": 1})
    daemon.restart()
    second = held(daemon, resources={"gpus": 1})
    assert daemon.task(first)["gpus"] + daemon.task(second)["gpus"] == [0, 1]


def test_who_has_more_priority_starts_first(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon(max_running=1).start()
    first = held(daemon)
    low, high = daemon.submit("true"), daemon.submit("true", priority=1)
    assert "1 of 1 tasks are running" in reason(daemon, high)
    let_go(daemon, first)
    assert daemon.wait(high)["finishedAt"] <= daemon.wait(low)["startedAt"]
