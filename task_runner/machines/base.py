"""How an action becomes a child process of the runner.

`process` is the command itself. Every other machine is a Python function that runs in a forked child of
its own: it may crash, hang or import a large library without touching the runner.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from task_runner.errors import StartFailed
from task_runner.machines import fork, walls
from task_runner.machines.walls import Walls
from task_runner.model.containerpolicy import ContainerPolicy
from task_runner.model.walls import TaskLimits

#: signals that Python ignores and a command must find as the system sets them
RESTORED = (signal.SIGPIPE, signal.SIGXFSZ)


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """What an action may know of the task it belongs to."""

    task_id: str
    attempt: int
    action_index: int
    #: the task's working directory
    work: str
    #: the whole environment of the action, before what its parameters add
    env: dict[str, str]
    stdout: int
    stderr: int
    #: directory of the named locks that tasks of one daemon share
    locks: str
    #: what the action reads on its standard input, where that is kept open; none: it is empty
    stdin: int | None = None
    #: the FIFO that takes lines of progress (machines/progress.py); none: nobody listens
    progress: str | None = None
    #: directories below which files of this machine may be read for the task
    host_files: tuple[str, ...] = ()
    #: values of the secrets that the spec names
    secrets: Mapping[str, str] = field(default_factory=dict)
    #: what the action's process puts around itself before it is the action; none: nothing
    walls: Walls | None = None
    #: what the task may use, for machines that hand that on to somebody else
    limits: TaskLimits | None = None
    #: where a machine says how it gets on (machines/say.py); none: nobody listens
    say: int | None = None
    #: which start of the action this is: 1 and up
    tries: int = 1
    #: an earlier process of this very try has been lost: find what it had started, and start nothing
    take_up: bool = False
    #: path of a file for what a later process of this try has to know; none: there is no place for that
    keep: str | None = None
    #: called at named places, where tests make a process die
    reach: Callable[[str], None] = lambda _place: None
    #: container engines by the path of their socket, the default first; empty: look in the usual places
    engines: Mapping[str, str] = field(default_factory=dict)
    #: names the daemon in labels of what engines make for it
    daemon: str = ""
    #: what containers may have of this machine
    containers: ContainerPolicy = field(default_factory=ContainerPolicy)
    #: of `env`, what this task was given: all but the basics of this machine
    given: Mapping[str, str] = field(default_factory=dict)
    #: directory of the secrets that variables in `given` name the path of; none: there are none
    secret_files: str | None = None


#: a machine written in Python: returns the exit code of the action
Run = Callable[[Any, Context], int]
#: gets such a machine ready, still as the daemon's user: imports and opens what the task's user may not be able to
Load = Callable[[Any, Context], Run]


def start_forked(
    load: Load, parameters: Any, context: Context, *, masked: bool = False, walled: bool = True
) -> int:
    """Run a machine in a forked child; returns its pid. Raises StartFailed.

    With ``masked`` signals for it stay blocked, and the machine unblocks them when it is ready for them. One that is
    not ``walled`` keeps the daemon's user, and is nowhere but where the runner is.
    """
    runner, around = os.getpid(), context.walls if walled else None
    if around is None or around.plain:

        def start() -> int:
            return fork.fork(lambda: _become(load, parameters, context, runner, masked, None))

        return start() if around is None or not around.join else walls.born_inside(around, start)
    return fork.fork_and_hear(lambda tell: _become(load, parameters, context, runner, masked, tell))


def _become(
    load: Load, parameters: Any, context: Context, runner: int, masked: bool, tell: int | None
) -> NoReturn:
    code = 1
    try:
        kept = [fd for fd in (context.say, tell) if fd is not None]
        fork.leave_runner(runner, stdin=None, stdout=context.stdout, stderr=context.stderr, kept=kept)
        os.umask(context.walls.umask if context.walls is not None else walls.USUAL_UMASK)
        run = load(parameters, context)
        if tell is not None:
            _enter_walls(context, runner, tell)
        _settle(context)
        if not masked:
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
        code = run(parameters, context)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code & 0xFF)


def _enter_walls(context: Context, runner: int, tell: int) -> None:
    assert context.walls is not None
    import traceback  # noqa: F401  to be able to tell of a fault: inside, Python's own files may be out of reach

    try:
        walls.enter(context.walls)
        walls.close_behind(context.walls)
    except StartFailed as error:
        fork.fail(tell, str(error))
    fork.die_with(runner)
    os.close(tell)


def _settle(context: Context) -> None:
    """Take up the task's directory, environment and streams."""
    os.chdir(context.work)
    os.environ.clear()
    os.environ.update(context.env)
    sys.stdout = open(  # noqa: SIM115
        1, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False
    )
    sys.stderr = open(  # noqa: SIM115
        2, "w", encoding="utf-8", errors="replace", buffering=1, closefd=False
    )
