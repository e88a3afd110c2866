"""The `container` machine: has a container engine run something, and is its stand-in among the runner's children.

Two threads: one follows the container (machines/containers/life.py), the first one takes signals and passes them on
(machines/say.py tells which means what). All signals stay blocked and are waited for, so none interrupts anything.
A signal to end it that comes before there is a container ends this process; while one is being made it is put away
first; from its start on signals are the container's.
"""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from typing import Any

from task_runner.errors import Damaged, EngineFailed
from task_runner.machines import say
from task_runner.machines.base import Context, Run
from task_runner.machines.containers.engine import Asker, among_engines
from task_runner.machines.containers.gate import WAKE, Cut, Gate, Phase
from task_runner.machines.containers.keep import Keep
from task_runner.machines.containers.life import FAILED, Life
from task_runner.model.codec import from_json
from task_runner.model.walls import ContainerParameters

#: seconds between two tries to pass a signal on, while the engine is away
_AGAIN = 0.25
_PAUSE, _RESUME = signal.SIGTSTP, signal.SIGCONT
#: signals that end nothing
_HARMLESS = frozenset({_PAUSE, _RESUME, signal.SIGCHLD, signal.SIGURG, signal.SIGWINCH, signal.SIGTTIN, signal.SIGTTOU})


def load(_parameters: Any, _context: Context) -> Run:
    """The machine, which wants the daemon's own environment."""
    return among_engines(_run)


def _run(parameters: Any, context: Context) -> int:
    gate = Gate(Phase.MAKING if context.take_up else Phase.FETCHING)
    try:
        wanted = from_json(ContainerParameters, parameters)
        life = Life(wanted, context, Keep(context.keep), gate)
    except (Damaged, OSError) as error:
        say.say(context.say, {"failed": str(error)})
        return FAILED
    return _Program(wanted, context, gate, life).run()


class _Program:
    def __init__(self, wanted: ContainerParameters, context: Context, gate: Gate, life: Life) -> None:
        self._context = context
        self._gate = gate
        self._life = life
        self._engine = Asker(wanted.engine, context.engines, lambda: None)
        self._code = FAILED
        self._cut: int | None = None
        #: signals that have come and not been passed on
        self._pending: list[int] = []

    def run(self) -> int:
        threading.Thread(target=self._live, daemon=True).start()
        while self._gate.phase is not Phase.OVER:
            living = self._gate.phase is Phase.LIVING
            seen = signal.sigtimedwait(signal.valid_signals(), _AGAIN if living and self._pending else 3600.0)
            if seen is not None:
                self._take(seen)
            if self._gate.phase is Phase.LIVING:
                self._pending = [number for number in self._pending if not self._pass_on(number)]
        if self._cut is not None:
            _die(self._cut)
        if self._life.left:
            _die(say.KILL)  # the runner has what is left removed by force, and notes what is left then
        return self._code

    def _live(self) -> None:
        try:
            self._code = self._life.run()
        except Cut as cut:
            self._cut = cut.number
        except BaseException as error:
            say.say(self._context.say, {"failed": f"{type(error).__name__}: {error}"})
            raise
        finally:
            self._gate.close()

    def _take(self, seen: signal.struct_siginfo) -> None:
        number = seen.si_signo
        if number == WAKE or (number in (signal.SIGPIPE, signal.SIGCHLD) and seen.si_pid in (0, os.getpid())):
            return
        if number not in _HARMLESS and self._gate.end(number):
            _die(number)
        if number in (_PAUSE, _RESUME):  # the last one counts
            self._pending = [each for each in self._pending if each not in (_PAUSE, _RESUME)]
        if number not in self._pending:
            self._pending.append(number)

    def _pass_on(self, number: int) -> bool:
        """False: the engine does not answer, so try again."""
        try:
            self._act(self._gate.container, number)
        except EngineFailed as error:
            if not self._engine.answers():
                return False
            if number in (_PAUSE, _RESUME):
                say.say(self._context.say, {"paused": number == _RESUME, "error": str(error)})
        return True

    def _act(self, container: str, number: int) -> None:
        engine = self._engine.engine()
        if number == _PAUSE:
            engine.pause(container)
            say.say(self._context.say, {"paused": True})
        elif number == _RESUME:
            engine.resume(container)
            say.say(self._context.say, {"paused": False})
        elif number == say.KILL:
            engine.send(container, "SIGKILL")
        else:
            engine.send(container, _name_of(number))


def _name_of(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def _die(number: int) -> None:
    """End by the signal that was to end the action, and leave no core."""
    number = signal.SIGKILL if number == say.KILL else number
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    os.kill(os.getpid(), number)
    time.sleep(1)
    os._exit(128 + number)
