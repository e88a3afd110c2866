"""Runs tasks inside User-Mode Linux, by the runner itself, and prints what became of each, as a line of JSON.

    uml-tasks.py DIRECTORY

In turn: the cgroup root; a group of the daemon's own, into which it has been put alone; one with a stranger in it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

from task_runner.lib import cgroups, group, process, signals
from task_runner.lib.equipment import Options
from task_runner.lib.runner import TaskRunner
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.model.codec import from_json, to_json
from task_runner.model.spec import Spec

HOG = ["python3", "-c", "b = bytearray(80 << 20)"]
FAMILY = ["sh", "-c", 'sleep 100 & python3 -c "$0"; wait', HOG[2]]
BOMB = "n=0; while [ $n -lt 30 ]; do sleep 30 & n=$((n+1)); done; kill 0"
DEAF = "trap '' TERM; (sleep 100 &); echo stop me; sleep 100"
BUSY = ["python3", "-c", "import time\nwhile time.process_time() < 0.3: pass"]
TASKS: dict[str, dict[str, Any]] = {
    "hog": {"command": HOG, "limits": {"memoryMb": 40, "swapMb": 0}},
    "family": {"command": FAMILY, "limits": {"memoryMb": 40}, "timeoutSeconds": 60},
    "bomb": {"command": ["sh", "-c", BOMB], "limits": {"pids": 8}, "graceSeconds": 0.1},
    "busy": {"command": BUSY, "limits": {"cpus": 0.2}},
    "deaf": {"command": ["sh", "-c", DEAF], "graceSeconds": 0.1},
    "plain": {"command": ["cat", "/proc/self/cgroup"]},
}


def main() -> None:
    where = sys.argv[1]
    signals.install()
    say("root", run_all(f"{where}/root", list(TASKS)))
    enter("own")
    say("own", run_all(f"{where}/own", ["hog", "plain"]))
    enter("shared")
    stranger = os.posix_spawn("/bin/sleep", ["sleep", "100"], {}, setsid=True)
    put("/sys/fs/cgroup/elsewhere", os.getpid())
    put("/sys/fs/cgroup/shared", stranger)
    if os.fork() == 0:  # of which the stranger is no child
        put("/sys/fs/cgroup/shared", os.getpid())
        say("shared", run_all(f"{where}/shared", ["hog", "plain"]))
        os._exit(0)
    os.wait()
    os.kill(stranger, signal.SIGKILL)


def say(name: str, told: dict[str, Any]) -> None:
    print("TOLD", json.dumps({"where": name, **told}), flush=True)


def enter(name: str) -> None:
    put(f"/sys/fs/cgroup/{name}", os.getpid())


def put(directory: str, pid: int) -> None:
    os.makedirs(directory, exist_ok=True)
    with open(f"{directory}/cgroup.procs", "w", encoding="ascii") as file:
        file.write(str(pid))


def run_all(directory: str, names: list[str]) -> dict[str, Any]:
    places = cgroups.find(cgroups.name_of(directory))
    means = [to_json(each) for each in group.means(places)]
    told = {name: run(f"{directory}/{name}", TASKS[name], places) for name in names}
    assert places.v2 is not None
    left = [entry.name for entry in os.scandir(places.v2) if entry.is_dir()]
    return {"places": to_json(places), "means": means, "tasks": told, "left": left}


def run(path: str, task: dict[str, Any], places: cgroups.Places) -> dict[str, Any]:
    directory = AttemptDirectory(path, 1)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    directory.create()
    parameters = {"command": task["command"]}
    rest = {name: value for name, value in task.items() if name != "command"}
    spec = from_json(Spec, {"actions": [{"machine": "process", "parameters": parameters}], **rest})
    asked: list[str] = []

    def stop_who_asks() -> None:
        with open(directory.output, encoding="utf-8") as file:
            if not asked and "stop me" in file.read():
                asked.append("once")
                os.kill(os.getpid(), signals.STOP)

    runner = TaskRunner("t", spec, directory, Options(cgroups=places), on_turn=stop_who_asks)
    runner.claim()
    status = to_json(runner.run())
    runner.close()
    with open(directory.output, encoding="utf-8") as file:
        return {"status": status, "output": file.read(), "children": len(process.descendants(os.getpid()))}


main()
