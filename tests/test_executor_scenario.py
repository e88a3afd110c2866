"""The life of a sandbox's tasks as the controller drives it; also with a daemon that is killed and started anew before
each of its calls."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Daemon, wait_for
from executorclient import GoClient, begun, decoded, shell


@pytest.mark.parametrize("restarting", [False, True])
def test_the_controllers_way(make_daemon: Callable[..., Daemon], tmp_path: Path, restarting: bool):
    daemon = make_daemon(dialects=["executor"], executor_max_tasks=1).start()
    client, watcher = GoClient(daemon, restarting=restarting), GoClient(daemon)
    log, gate = tmp_path / "log", tmp_path / "gate"
    first = shell("sandbox-0", f"echo ran >> {log}; while [ ! -e {gate} ]; do sleep 0.1; done")

    assert client.get() is None
    created = client.set(first)
    assert created is not None
    assert created["process"] == first["process"]
    running = decoded(begun(watcher.http, "sandbox-0"))
    assert created == running or created["processStatus"].keys() == {"waiting"}
    wait_for(log.exists, "it runs")
    # the controller sends it again whenever it looks, until it is over
    assert client.set(first) == running
    assert client.get() == running
    refused = client.http.post("/tasks", shell("another", "true"))
    assert (refused.status_code, "maximum concurrent tasks (1)" in refused.text) == (500, True)
    gate.touch()
    wait_for(lambda: "terminated" in watcher.get()["processStatus"], "it is over")
    over = client.get()
    assert over["processStatus"]["terminated"]["exitCode"] == 0
    assert over["processStatus"]["terminated"]["reason"] == "Succeeded"
    assert client.set(first) == over

    # the next sandbox takes its place
    second = shell("sandbox-1", "trap 'exit 3' TERM; while :; do sleep 0.1; done")
    assert client.set(second)["name"] == "sandbox-1"
    running = decoded(begun(watcher.http, "sandbox-1"))
    assert client.get() == running
    assert client.http.get("/tasks/sandbox-0").status_code == 404

    # and is released when nothing is left
    assert client.set(None) is None
    wait_for(lambda: watcher.get() is None, "it is released")
    assert client.http.get("/tasks/sandbox-1").status_code == 404
    assert client.http.call("DELETE", "/tasks/sandbox-1").status_code == 204

    # the name is free again
    assert client.http.post("/tasks", first).status_code == 201
    wait_for(lambda: log.read_text() == "ran\nran\n", "it runs anew")
    ended = wait_for(lambda: (t := watcher.get())["processStatus"].get("terminated") and t, "it is over")
    assert client.http.get("/tasks/sandbox-0").json() == ended
    assert log.read_text() == "ran\nran\n"
