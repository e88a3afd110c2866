"""A machine that counts down: an example of a package's own machine.

`check` runs in the daemon when a task is submitted, and refuses what `run` could not carry out. `run` is the
action: it runs in a process of its own, in the task's working directory, and what it prints is the task's output.
It may import what it likes, hang, or crash: that ends the task, and nothing else.
"""

from __future__ import annotations

import time
from typing import Any

from task_runner.errors import InvalidRequest
from task_runner.machines.base import Context


def check(parameters: Any) -> None:
    """Raise InvalidRequest, which names the field that is wrong; any other error refuses the task too."""
    if not isinstance(parameters, dict):
        raise InvalidRequest.at("", 'expected an object: {"from": 3}')
    start = parameters["from"]
    if type(start) is not int or not 0 <= start <= 100:
        raise InvalidRequest.at("from", "expected a whole number from 0 to 100")


def run(parameters: Any, context: Context) -> int:
    """Carry the action out; returns its exit code."""
    for number in range(parameters["from"], 0, -1):
        print(number, flush=True)
        time.sleep(parameters.get("pause", 0))
    print(f"{context.task_id}: lift-off")
    return int(parameters.get("code", 0))
