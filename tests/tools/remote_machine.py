"""Starts the `container` machine as a runner does, and prints what it says: the pid first, its lines, then how it ended.

    python remote_machine.py '{"parameters": {…}, "stdout": PATH, "stderr": PATH, "context": {…}}'
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading

from task_runner.machines import containercopy, containerengine, containerlife, registry
from task_runner.machines.base import Context
from task_runner.model.codec import from_json
from task_runner.model.containerpolicy import ContainerPolicy
from task_runner.model.grant import GrantedAccount
from task_runner.model.spec import Action
from task_runner.model.walls import TaskLimits
from task_runner.machines.walls import Walls


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


def main() -> None:
    order = json.loads(sys.argv[1])
    given = order["context"]
    if "containers" in given:
        given["containers"] = from_json(ContainerPolicy, given["containers"])
    if "limits" in given:
        given["limits"] = from_json(TaskLimits, given["limits"])
    if "account" in given:
        given["walls"] = Walls(account=from_json(GrantedAccount, given.pop("account")))
    containerengine.PATIENCE = order.get("patience", containerengine.PATIENCE)
    containerlife.SETTLE = order.get("settle", containerlife.SETTLE)
    containercopy.SPACE = order.get("space", containercopy.SPACE)
    if "die_at" in order:
        given["reach"] = lambda place: os.kill(os.getpid(), signal.SIGKILL) if place == order["die_at"] else None
    stdout = _open(order["stdout"])
    stderr = stdout if order["stderr"] == order["stdout"] else _open(order["stderr"])
    hear, say = os.pipe2(os.O_CLOEXEC)
    context = Context(action_index=0, stdout=stdout, stderr=stderr, locks="/tmp", say=say, **given)
    pid = registry.start(Action(machine="container", parameters=order["parameters"]), context)
    os.close(say)
    print(pid, flush=True)

    def relay() -> None:
        with open(hear, encoding="utf-8") as said:
            for line in said:
                print(line, end="", flush=True)

    thread = threading.Thread(target=relay)
    thread.start()
    _pid, status = os.waitpid(pid, 0)
    thread.join()
    print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == "__main__":
    main()
