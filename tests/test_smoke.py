from __future__ import annotations


def test_a_command_runs_and_its_ending_is_known(daemon):
    task_id = daemon.submit("sh", "-c", "echo out; echo err >&2; exit 3")
    task = daemon.wait(task_id)
    assert (task["state"], task["outcome"], task["exitCode"]) == ("exited", "failed", 3)
    assert daemon.output(task_id) == b"out\nerr\n"


def test_a_task_outlives_a_killed_daemon(daemon):
    task_id = daemon.submit("sh", "-c", "echo before; while [ ! -e go ]; do sleep 0.1; done; echo after; exit 7")
    daemon.wait_state(task_id, "running")
    daemon.restart()
    assert daemon.task(task_id)["state"] in ("running", "unknown")
    (daemon.state_dir / "tasks" / task_id / "work" / "go").touch()
    task = daemon.wait(task_id)
    assert (task["outcome"], task["exitCode"]) == ("failed", 7)
    assert daemon.output(task_id) == b"before\nafter\n"
