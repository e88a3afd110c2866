"""Starts the `container` machine as runners do, each forked from this process, which has everything loaded.

Reads one JSON object a line: {"parameters": {…}, "said", "stdout", "stderr": paths, "context": {…}}; answers with the
pid of the runner. What the machine says goes to the file `said`, a line each: the pid of its process before, and how
that has ended behind it.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any, NoReturn

from task_runner.engines import docker  # once, and not in every child
from task_runner.engines.base import Seen
from task_runner.machines import registry
from task_runner.machines.base import Context
from task_runner.machines.containers import copy, engine, life
from task_runner.machines.walls import Walls
from task_runner.model.codec import from_json
from task_runner.model.containerpolicy import ContainerPolicy
from task_runner.model.grant import GrantedAccount
from task_runner.model.spec import Action
from task_runner.model.walls import TaskLimits

_RECORDS = {"containers": ContainerPolicy, "limits": TaskLimits}


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _context(order: dict[str, Any], say: int) -> Context:
    given = {name: from_json(_RECORDS[name], value) if name in _RECORDS else value for name, value in order["context"].items()}
    if "account" in given:
        given["walls"] = Walls(account=from_json(GrantedAccount, given.pop("account")))
    if "die_at" in order:
        given["reach"] = lambda place: os.kill(os.getpid(), signal.SIGKILL) if place == order["die_at"] else None
    stdout = _open(order["stdout"])
    stderr = stdout if order["stderr"] == order["stdout"] else _open(order["stderr"])
    return Context(action_index=0, stdout=stdout, stderr=stderr, locks="/tmp", say=say, **given)


def _lag(seconds: float) -> None:
    """What the engine says of a container is that old when it is heard."""
    look = docker.DockerEngine.look

    def lagging(self: docker.DockerEngine, container: str) -> Seen:
        seen = look(self, container)
        time.sleep(seconds)
        return seen

    if seconds:
        docker.DockerEngine.look = lagging  # type: ignore[method-assign]


def _run(order: dict[str, Any]) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    said = _open(order["said"])
    engine.PATIENCE = copy.PATIENCE = order.get("patience", engine.PATIENCE)
    life.SETTLE = order.get("settle", life.SETTLE)
    copy.SPACE = order.get("space", copy.SPACE)
    _lag(order.get("lag", 0.0))
    pid = registry.start(Action(machine="container", parameters=order["parameters"]), _context(order, said))
    os.write(said, b'{"pid": %d}\n' % pid)
    _pid, status = os.waitpid(pid, 0)
    os.write(said, b'{"code": %d}\n' % os.waitstatus_to_exitcode(status))
    os._exit(0)


def main() -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                _run(json.loads(line))
            finally:
                os._exit(1)
        print(pid, flush=True)


main()
