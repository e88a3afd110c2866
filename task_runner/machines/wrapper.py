"""A command that runs inside other namespaces than the runner: in a sandbox, or beside a container's main process.

Rule 1: the wrapper is the runner's child, the command the wrapper's. The wrapper stays outside, where nothing that the
        command does reaches it. So it knows how the command ends, and says so (machines/say.py).
Rule 2: it does not obey. A stop goes to everything below the runner, the command included, and ends the command; the
        wrapper then follows. Only before there is a command it ends by signals like anybody else.
Rule 3: what a client sends to the command alone comes through the wrapper, as SIGRTMIN+N-1 for signal N
        (lib/signals.py).
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NoReturn, Protocol

from task_runner.errors import StartFailed
from task_runner.machines import fork, process, say, walls
from task_runner.machines.base import RESTORED, Context
from task_runner.machines.walls import Walls
from task_runner.model.machines import ProcessParameters

#: what asks the wrapper to pass a signal on
_PASS = range(signal.SIGRTMIN, signal.SIGRTMAX + 1)
#: what ends the wrapper while there is no command
_ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}


class _Stopped(Exception):
    """A signal ended it before there was a command."""


class Place(Protocol):
    """Where the command runs."""

    directory: str

    def begin(self) -> None:
        """In the wrapper: whatever it starts from now on is in the pid namespace. Raises StartFailed."""

    def enter(self) -> None:
        """In the process that becomes the command: join the rest, and be the user it runs as. Raises StartFailed."""

    def execute(self, argv: list[str]) -> NoReturn:
        """Become the command. Raises StartFailed, OSError."""

    def close(self) -> None:
        """Put away what was made for the command, when it has ended. The wrapper does nothing after this."""


def start(parameters: Any, context: Context) -> int:
    """Start a wrapper; returns its pid. Raises StartFailed. What fails later is said by the wrapper."""
    wanted = process.read(parameters)
    runner, stdin = os.getpid(), process.open_stdin(wanted, context)
    try:
        return fork.fork(lambda: _become(wanted, context, stdin, runner))
    finally:
        os.close(stdin)


def _become(wanted: ProcessParameters, context: Context, stdin: int, runner: int) -> NoReturn:
    ended = 1
    try:
        kept = [] if context.say is None else [context.say]
        fork.leave_runner(runner, stdin=stdin, stdout=context.stdout, stderr=context.stderr, kept=kept)
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, _PASS)
        ended = carry_out(wanted, context, lambda: _place(wanted, context), runner)
    except StartFailed as error:
        say.say(context.say, {"failed": str(error)})
    except _Stopped:
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
    except BaseException:
        import traceback

        text = traceback.format_exc()
        os.write(2, text.encode())
        say.say(context.say, {"failed": text.strip().rpartition("\n")[2]})
    finally:
        os._exit(ended if 0 <= ended < 128 else 1)


def _place(wanted: ProcessParameters, context: Context) -> Place:
    # each loads what the other has no use for
    if wanted.sandbox is not None:
        from task_runner.machines import sandbox

        return sandbox.make(wanted, context)
    from task_runner.machines import sidecar

    return sidecar.find(wanted, context)


def carry_out(
    wanted: ProcessParameters, context: Context, find: Callable[[], Place], runner: int | None = None
) -> int:
    """Run the command; returns its exit code, or the signal that ended it with a minus. Raises StartFailed."""
    place = find()
    try:
        place.begin()
        if runner is not None:
            fork.die_with(runner)  # joining made the kernel forget
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        if signal.sigpending() & _ENDING:
            raise _Stopped  # it came while the place was made, and there is no command yet that it could reach
        ended = _follow(_start(wanted, context, place))
        result = {"exitCode": None, "signal": signal.Signals(-ended).name} if ended < 0 else {"exitCode": ended}
        say.say(context.say, {"ended": result})
        return ended
    finally:
        place.close()


def _start(wanted: ProcessParameters, context: Context, place: Place) -> int:
    def become(tell: int) -> NoReturn:
        around = context.walls or Walls()
        program = process.words(wanted)
        try:
            os.setsid()
            walls.enter(replace(around, account=None))
            place.enter()
            try:
                os.chdir(place.directory)
            except OSError as error:
                raise StartFailed(f"workingDirectory {place.directory}: {error.strerror}") from None
            walls.close_behind(around)
            fork.die_with_parent()
            for number in RESTORED:
                signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            place.execute(program)
        except StartFailed as error:
            fork.fail(tell, str(error))
        except BaseException as error:
            fork.fail(tell, str(process.not_started(program[0], error)))

    return fork.fork_and_hear(become)


def _follow(command: int) -> int:
    """Wait for the command, and pass on what it is sent."""
    while True:
        number = signal.sigwait(signal.valid_signals())
        if number in _PASS:
            os.kill(command, number - signal.SIGRTMIN + 1)  # our own child, not yet waited for
        elif number == signal.SIGCHLD:
            pid, status = os.waitpid(command, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
