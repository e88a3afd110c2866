"""A `container` machine that does what its parameters say in Python: `first` the first process of a try, `next` those
that take it up. So a test decides what a machine says, and when. It is in place when this has been imported.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import types
from typing import Any

import task_runner.machines.containers
from task_runner.lib import remote
from task_runner.machines.base import Context
from task_runner.machines.say import KILL, say


def begin() -> None:
    """In the runner: a test may have it wait less long for a machine to kill what it runs."""
    remote.OBEY = float(os.environ.get("SAYER_OBEYS_WITHIN", remote.OBEY))


class Stage:
    """What such a program has at hand."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.signals = [*range(1, 32), KILL]

    def say(self, **note: Any) -> None:
        say(self.context.say, note)

    def raw(self, data: bytes) -> None:
        os.write(self.context.say, data)

    def note(self, **more: Any) -> None:
        self.say(container={"engine": "podman", "name": "it", "image": "i", **more})

    def take(self) -> str:
        """Wait for a signal, and leave word of it in the working directory; returns its name."""
        number = signal.sigwait({each for each in self.signals if each not in (signal.SIGKILL, signal.SIGSTOP)})
        name = "KILL" if number == KILL else signal.Signals(number).name
        with open("signals", "a") as file:
            file.write(f"{name}\n")
        return name

    def hang(self) -> None:
        while True:
            self.take()

    def wait(self, name: str) -> None:
        while not os.path.exists(name):
            time.sleep(0.01)

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def load(_parameters: Any, _context: Context) -> Any:
    return run


def run(parameters: Any, context: Context) -> int:
    with open("starts", "a") as file:
        file.write(f"{'next' if context.take_up else 'first'} {context.tries}\n")
    stage = Stage(context)
    code = parameters["next" if context.take_up and "next" in parameters else "first"]
    exec(code, {"stage": stage, "say": stage.say})
    return 0


container = types.ModuleType("task_runner.machines.containers.standin")
container.load = load  # type: ignore[attr-defined]
task_runner.machines.containers.standin = container  # type: ignore[attr-defined]
sys.modules["task_runner.machines.containers.standin"] = container
