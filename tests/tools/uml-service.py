"""Inside User-Mode Linux under systemd: what the service makes of limits, and what restarts make of them.

Prints one line of JSON for each look at the task, and turns the machine off.
"""

from __future__ import annotations

import json
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

STATE = Path("/var/lib/task-runner")
UNIT = Path("/sys/fs/cgroup/system.slice/task-runner.service")
LIMITS = {"memoryMb": 60, "swapMb": 0, "pids": 30, "cpus": 0.5}
SCRIPT = "while [ ! -e go ]; do sleep 0.1; done; exec python3 -c 'b = bytearray(150 << 20)'"


def main() -> None:
    wait(lambda: systemctl("is-active", "task-runner") == "active", "the service is active")
    task_id = call("POST", "/v1/tasks", {"command": ["sh", "-c", SCRIPT], "limits": LIMITS})["taskId"]
    wait(lambda: call("GET", f"/v1/tasks/{task_id}")["state"] == "running", "the task runs")
    look("started", task_id)
    systemctl("stop", "task-runner")
    tell("stopped", subtree=(UNIT / "cgroup.subtree_control").read_text().split())
    systemctl("start", "task-runner")
    look("restarted", task_id)
    (STATE / "tasks" / task_id / "work" / "go").touch()
    wait(lambda: call("GET", f"/v1/tasks/{task_id}")["outcome"], "the task is over")
    tell("over", task=call("GET", f"/v1/tasks/{task_id}"))


def look(when: str, task_id: str) -> None:
    call("GET", "/ready")
    node = call("GET", "/v1/node")
    group = next(UNIT.glob(f"task-runner-*/{task_id}-1"))
    names = ("memory.max", "memory.swap.max", "pids.max", "cpu.max")
    tell(
        when,
        active=systemctl("is-active", "task-runner"),
        state=call("GET", f"/v1/tasks/{task_id}")["state"],
        limits={name: (group / name).read_text().strip() for name in names},
        members=len((group / "cgroup.procs").read_text().split()),
        means={each["limit"]: each["by"] for each in node["limits"]},
        unit=len((UNIT / "cgroup.procs").read_text().split()),
    )


def tell(when: str, **told: Any) -> None:
    print("TOLD", json.dumps({"when": when, **told}), flush=True)


def systemctl(*arguments: str) -> str:
    return subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False).stdout.strip()


def call(method: str, path: str, body: Any = None) -> Any:
    """What the API answers, as soon as it does with 2xx."""
    answer: Any = None

    def ask() -> bool:
        nonlocal answer
        request = urllib.request.Request("http://127.0.0.1:8000" + path, method=method)
        request.add_header("Content-Type", "application/json")
        request.data = json.dumps(body).encode() if body is not None else None
        try:
            request.add_header("Authorization", "Bearer " + (STATE / "token").read_text().strip())
            with urllib.request.urlopen(request, timeout=60) as response:
                answer = json.load(response)
        except (urllib.error.URLError, OSError):
            return False
        return True

    wait(ask, f"{method} {path}")
    return answer


def wait(condition: Any, what: str) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"not within two minutes: {what}")
        time.sleep(0.3)


try:
    main()
finally:
    shown = ["journalctl", "--no-pager", "-u", "task-runner", "-n", "60"]
    print(subprocess.run(shown, capture_output=True, text=True, check=False).stdout, flush=True)
    Path("/proc/sysrq-trigger").write_text("o")
