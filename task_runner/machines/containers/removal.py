"""Removes what an action's machine has left with a container engine: for a runner whose machine's process is dead."""

from __future__ import annotations

import signal
from typing import Any

from task_runner.machines.base import Context, Run
from task_runner.machines.containers.engine import among_engines

#: seconds after which an engine that does not answer has failed
PATIENCE = 20


def load(_parameters: Any, _context: Context) -> Run:
    """The machine, which wants the daemon's own environment."""
    return among_engines(_run)


def _run(parameters: Any, context: Context) -> int:
    """Returns 0 where nothing is left. Says a line for each that was removed, or at last why it could not be."""
    from task_runner.engines.find import open_engine
    from task_runner.errors import TaskRunnerError
    from task_runner.machines.containers.order import labels_of

    signal.alarm(PATIENCE)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    try:
        engine = open_engine(parameters, context.engines)
        for found in engine.find(labels_of(context)):
            if not found.ours:
                continue
            context.reach("removal.found")
            engine.remove(found.id)
            print(f"removed {found.name}")
    except TaskRunnerError as error:
        print(" ".join(str(error).split()))
        return 1
    return 0
