"""Carries out machines as a runner does: forked, from a process that has one thread.

Reads one JSON object a line ({"machine" or "files", "parameters", "context"}); answers with the pid, and with the wait
status when it has ended.
"""

from __future__ import annotations

import json
import os
import sys

from task_runner.machines import (
    download,  # noqa: F401  once, and not in every child
    extract,  # noqa: F401
    files,  # noqa: F401
    registry,
)
from task_runner.machines.base import Context
from task_runner.model.codec import from_json
from task_runner.model.spec import Action
from task_runner.model.terms import FileIn


def main() -> None:
    for line in sys.stdin:
        order = json.loads(line)
        output = os.open(order["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        given = order["context"]
        given["host_files"] = tuple(given.get("host_files", ()))
        context = Context(task_id="t", attempt=1, action_index=0, stdout=output, stderr=output, locks="/", **given)
        if order["machine"] == "files":
            pid = registry.place_files([from_json(FileIn, each) for each in order["parameters"]], context)
        else:
            pid = registry.start(Action(machine=order["machine"], parameters=order["parameters"]), context)
        os.close(output)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


main()
