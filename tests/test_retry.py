"""Retries by the spec, as a client sees them: one task, several attempts, and no end before the last."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any

from conftest import Daemon, wait_for

from task_runner.lib import process

QUICK = {"delaySeconds": 0, "jitter": 0}
#: succeeds at the try whose number is given
COUNT = 'echo try >> tries; echo "attempt $TASK_RUNNER_ATTEMPT"; [ $(wc -l < tries) -ge "$0" ]'


def test_a_task_is_tried_until_it_succeeds(shared: Daemon) -> None:
    task = shared.wait(shared.submit("sh", "-c", COUNT, "3", retry={"count": 5, **QUICK}))
    assert (task["outcome"], task["attempt"], task["error"]) == ("succeeded", 3, None)
    assert [(each["attempt"], each["outcome"], each["exitCode"]) for each in task["attempts"]] == [
        (1, "failed", 1),
        (2, "failed", 1),
    ]


def test_every_attempt_keeps_its_output_and_its_status(shared: Daemon) -> None:
    task_id = shared.submit("sh", "-c", COUNT, "2", retry={"count": 1, **QUICK})
    shared.wait(task_id)
    for attempt in (1, 2):
        output = shared.http.get(f"/v1/tasks/{task_id}/output", params={"attempt": attempt}).text
        assert output == f"attempt {attempt}\n"
        status = shared.http.get(f"/v1/tasks/{task_id}/attempts/{attempt}").json()
        assert (status["attempt"], status["exitCode"]) == (attempt, 2 - attempt)
    assert shared.http.get(f"/v1/tasks/{task_id}/attempts/3").status_code == 400


def test_it_is_not_over_between_two_tries(shared: Daemon) -> None:
    task_id = shared.submit("false", retry={"count": 1, "delaySeconds": 3600, "jitter": 0})
    task = wait_for(lambda: (t := shared.task(task_id))["attempt"] == 2 and t, "the second try waits")
    assert (task["state"], task["outcome"], task["finishedAt"]) == ("pending", None, None)
    assert task["retryAt"]
    assert "try 2 of 2" in task["pendingReason"]
    stopped = shared.post(f"/v1/tasks/{task_id}/stop").json()
    assert (stopped["state"], stopped["outcome"]) == ("exited", "cancelled")


def test_the_last_failure_is_the_ending(shared: Daemon) -> None:
    task = shared.wait(shared.submit("sh", "-c", "exit 4", retry={"count": 2, **QUICK}))
    assert (task["outcome"], task["exitCode"], task["attempt"]) == ("failed", 4, 3)


def test_a_stopped_task_is_not_tried_again(shared: Daemon) -> None:
    task_id = shared.submit("sleep", "1000", retry={"count": 5, **QUICK})
    shared.wait_state(task_id, "running")
    shared.post(f"/v1/tasks/{task_id}/stop")
    task = shared.wait(task_id)
    assert (task["outcome"], task["attempt"]) == ("cancelled", 1)


def test_only_the_named_endings_are_tried_again(shared: Daemon) -> None:
    task = shared.wait(shared.submit("false", retry={"count": 5, "on": ["lost", "timed_out"], **QUICK}))
    assert (task["outcome"], task["attempt"]) == ("failed", 1)
    task = shared.wait(shared.submit("sleep", "99", timeoutSeconds=0.05, retry={"count": 1, "on": ["timed_out"], **QUICK}))
    assert (task["outcome"], task["attempt"]) == ("timed_out", 2)


def test_a_lost_task_is_tried_again_when_nothing_of_it_is_left(shared: Daemon) -> None:
    task_id = shared.submit("sh", "-c", "echo $$; exec sleep 1000", retry={"count": 1, "on": ["lost"], **QUICK})
    shared.wait_state(task_id, "running")
    wait_for(lambda: shared.output(task_id).endswith(b"\n"), "its pid")
    first = process.look(int(shared.output(task_id)))
    assert first is not None
    os.kill(shared.runner_pid(task_id), signal.SIGKILL)
    wait_for(lambda: (t := shared.task(task_id))["attempt"] == 2 and t["state"] == "running", "the second runs")
    assert (left := process.look(first.pid)) is None or left.start_time != first.start_time or not left.alive
    shared.post(f"/v1/tasks/{task_id}/stop")
    task = shared.wait(task_id)
    assert [each["state"] for each in task["attempts"]] == ["lost"]


def test_a_retry_by_request_has_all_its_tries_anew(shared: Daemon) -> None:
    task_id = shared.submit("false", retry={"count": 1, **QUICK})
    assert shared.wait(task_id)["attempt"] == 2
    assert shared.post(f"/v1/tasks/{task_id}/retry").status_code == 200
    assert shared.wait(task_id)["attempt"] == 4


def test_a_wait_between_two_tries_outlives_the_daemon(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon().start()
    task_id = daemon.submit("false", retry={"count": 1, "delaySeconds": 3600, "jitter": 0})
    before = wait_for(lambda: (t := daemon.task(task_id))["attempt"] == 2 and t, "the second try waits")
    daemon.restart()
    after = daemon.wait_state(task_id, "pending")
    assert (after["attempt"], after["retryAt"]) == (2, before["retryAt"])
    assert "try 2 of 2" in after["pendingReason"]


def test_events_show_every_try_and_one_end(shared: Daemon) -> None:
    task_id = shared.submit("false", retry={"count": 1, **QUICK})
    shared.wait(task_id)
    events = _events(shared, task_id)
    assert [each["attempt"] for each in events if each["state"] == "pending"] == [1, 2]
    assert [each["state"] for each in events].count("exited") == 1


def _events(daemon: Daemon, task_id: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    with daemon.http.stream("GET", f"/v1/tasks/{task_id}/events") as stream:
        for line in stream.iter_lines():
            if line.startswith("data: "):
                found.append(json.loads(line[6:]))
                if found[-1]["outcome"]:
                    break
    return found
