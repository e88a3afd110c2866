"""From an action to a running child process: finds the machine by its name."""

from __future__ import annotations

from typing import Any

from task_runner.errors import StartFailed
from task_runner.machines import base, echo, process
from task_runner.machines.base import Context
from task_runner.model.spec import Action


def start(action: Action, context: Context) -> int:
    """Start the action; returns the pid of its process. Raises StartFailed."""
    if action.machine == "process":
        return process.start(action.parameters, context)
    if action.machine == "echo":
        return base.start_forked(echo.run, action.parameters, context, masked=True)

    def run(parameters: Any, context: Context) -> int:
        return _installed(action.machine)(parameters, context)

    return base.start_forked(run, action.parameters, context)


def _installed(name: str) -> base.Run:
    """The machine that an installed package offers; imported in the child alone, by design."""
    from importlib.metadata import entry_points

    for entry in entry_points(group="task_runner.machines", name=name):
        run: base.Run = entry.load().run
        return run
    raise StartFailed(f"no machine {name!r} is installed")
