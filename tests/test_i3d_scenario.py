"""A morning with i3D.net's task system; and the same with a daemon that is killed before each call."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest
from conftest import Daemon, wait_for
from i3dclient import BATCH, TASK, I3d

TEMPLATES = {
    # each run of it leaves a line, so that a second one would be seen
    "patch": {
        "parameters": {"applicationInstanceId": {}, "log": {}, "build": {"type": "integer"}},
        "task": {
            "actions": [
                {"machine": "echo", "name": "Download software build", "parameters": ["echo got it"]},
                {"machine": "process", "name": "Deploy", "parameters": {
                    "command": ["sh", "-c", 'echo "$1 $2" >> "$3"', "sh", "${applicationInstanceId}", "${build}", "${log}"]}},
            ],
        },
    },
    "serve": {
        "parameters": {"gate": {}},
        "task": {"command": ["sh", "-c", 'until [ -e "$1" ]; do sleep 0.1; done', "sh", "${gate}"]},
    },
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("restarting", [False, True])
def test_a_morning(make_daemon: Callable[..., Daemon], restarting: bool):
    daemon = make_daemon(dialects=["i3d"]).start()
    for name, template in TEMPLATES.items():
        assert daemon.http.put(f"/v1/templates/{name}", json=template).status_code == 201
    log, gate = daemon.state_dir.parent / "log", daemon.state_dir.parent / "gate"
    i3d = I3d(daemon, restarting=restarting)
    calm = I3d(daemon)  # for what is asked again and again

    # a server that runs, and is held
    served = i3d.only(i3d.create("serve", 101, taskActionParam=[{"paramName": "gate", "paramValue": str(gate)}]))
    calm.wait(served, 1)
    i3d.turn(served, 2)
    v1 = daemon.http.get("/v1/tasks", params={"entity": "101"}).json()[0]["taskId"]
    assert daemon.stands_still(v1)

    # a patch for three instances, one of which has to wait for that
    params = [{"paramName": "log", "paramValue": str(log)}, {"paramName": "build", "paramValue": "7"}]
    batch = i3d.create("patch", 101, 102, 103, taskActionParam=params)
    held, *free = sorted(map(int, batch["taskIds"]))
    assert [calm.wait(each)["resultCode"] for each in free] == [127, 127]
    half = i3d.one("GET", f"{BATCH}/{batch['id']}")
    assert (half["numTasksOk"], half["finishedAt"], half["taskIds"][str(held)]) == (2, 0, 0)

    # one for later, which is then not wanted
    later = i3d.only(i3d.create("patch", 104, executeAt=4_102_444_800, taskActionParam=params))
    assert i3d.task(later)["resultCode"] == 0
    assert i3d.one("DELETE", f"{TASK}/{later}")["resultCode"] == 124

    # the server goes on, ends, and what it has held follows
    assert i3d.task(held)["resultCode"] == 0
    assert i3d.task(served)["resultCode"] == 2
    i3d.turn(served, 1)
    gate.touch()
    assert calm.wait(served)["resultCode"] == 127
    assert calm.wait(held)["resultCode"] == 127
    over = i3d.one("GET", f"{BATCH}/{batch['id']}")
    assert (over["numTasks"], over["numTasksOk"], set(over["taskIds"].values())) == (3, 3, {127})
    assert over["finishedAt"] >= over["createdAt"] > 0
    assert sorted(log.read_text().splitlines()) == ["101 7", "102 7", "103 7"]
    listed = [each["id"] for each in i3d.get(TASK).json()]
    assert listed == [later, *sorted(free, reverse=True), held, served]


def test_a_task_whose_end_is_just_being_stored_is_not_over_in_its_batch(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(dialects=["i3d"])
    hold, gate = daemon.state_dir.parent / "hold", daemon.state_dir.parent / "gate"
    daemon.start(TASK_RUNNER_FAILPOINT=f"store.after-commit~{hold}")
    assert daemon.http.put("/v1/templates/serve", json=TEMPLATES["serve"]).status_code == 201
    i3d = I3d(daemon)
    batch = i3d.create("serve", 5, taskActionParam=[{"paramName": "gate", "paramValue": str(gate)}])
    number = i3d.only(batch)
    i3d.wait(number, 1)
    hold.touch()
    gate.touch()
    with closing(sqlite3.connect(f"file:{daemon.state.database}?mode=ro", uri=True)) as store:
        wait_for(lambda: store.execute("SELECT outcome FROM tasks").fetchall() == [("succeeded",)], "the store has it")
    shown = i3d.one("GET", f"{BATCH}/{batch['id']}")
    assert (shown["numTasksOk"], shown["finishedAt"], shown["taskIds"]) == (0, 0, {str(number): 1})
    [known] = daemon.http.get("/v1/batches").json()
    assert (known["states"], known["numTasksOk"], known["finishedAt"]) == ({"running": 1}, 0, None)
    hold.unlink()
    assert i3d.wait(number)["resultCode"] == 127
    over = i3d.one("GET", f"{BATCH}/{batch['id']}")
    assert (over["numTasksOk"], over["finishedAt"] > 0, over["taskIds"]) == (1, True, {str(number): 127})


def test_a_daemon_that_is_killed_under_a_task_shows_it_as_it_is(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon(dialects=["i3d"]).start()
    daemon.http.put("/v1/templates/serve", json={"task": {"command": ["sleep", "600"]}})
    i3d = I3d(daemon)
    number = i3d.only(i3d.create("serve", 5))
    i3d.wait(number, 1)
    before = i3d.task(number)
    daemon.restart()
    after = i3d.task(number)
    assert {**after, "lastActivityAt": 0} == {**before, "lastActivityAt": 0}
    runner = daemon.runner_pid(daemon.http.get("/v1/tasks").json()[0]["taskId"])
    daemon.kill()
    os.kill(runner, signal.SIGKILL)
    daemon.start()
    lost = wait_for(lambda: (t := i3d.task(number))["finishedAt"] and t, "it is lost")
    assert (lost["resultCode"], lost["resultText"][:6]) == (126, "Lost: ")
