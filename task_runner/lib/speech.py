"""Actions whose machines may say how they get on: what is done about what they say (lib/hearing.py), and from whose
words it is concluded how they ended. What is remote is followed as lib/remote.py says.
"""

from __future__ import annotations

import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from task_runner.lib import failpoint, process, signals, tree
from task_runner.lib.actionnote import ActionNote
from task_runner.lib.clock import Clock
from task_runner.lib.equipment import Equipment, is_remote, wants_input
from task_runner.lib.family import Family
from task_runner.lib.hearing import Ending, Hearing
from task_runner.lib.outputlog import OutputLog
from task_runner.lib.process import Process
from task_runner.lib.remote import Following, Remote
from task_runner.lib.report import Report
from task_runner.lib.stop import KILL_INTERVAL
from task_runner.lib.verdict import OUTCOMES
from task_runner.machines import registry
from task_runner.machines.base import Context
from task_runner.model.spec import Action
from task_runner.model.state import TRANSITIONS, Event, Outcome, State

if TYPE_CHECKING:
    from task_runner.lib.supervision import Supervision

#: seconds in which whoever has been killed is gone, if the kernel can end it at all
DYING = 2.0


class Speech:
    """For one task; hears every machine of it that may say something."""

    def __init__(
        self, equipment: Equipment, family: Family, supervision: Supervision, report: Report, output: OutputLog,
        clock: Clock,
    ) -> None:  # fmt: skip
        self._equipment = equipment
        self._family = family
        self._supervision = supervision
        self._report = report
        self._output = output
        self._clock = clock
        self.hearing = Hearing(supervision.poll, self)
        self._following: Following | None = None
        self._first: Process | None = None

    # -- a try

    def begin(self, note: ActionNote, index: int, action: Action, *, take_up: bool) -> int:
        """Start a try, or go on with one that a dead runner has begun; returns the pid. Raises StartFailed, OSError."""
        failpoint.reach("runner.before-machine")
        self.hearing.expect()
        self.hearing.container = note.container if take_up else None
        self._following = self._first = None
        self._family.wrapped = action.wrapped
        if not take_up:
            _unlink(self._equipment.keep(index, note.tries))
        if is_remote(action):
            self._begin_remote(note, index, action, take_up=take_up)
        pid = self._start(note, index, action, take_up=take_up)
        failpoint.reach("runner.after-machine")
        return pid

    def _begin_remote(self, note: ActionNote, index: int, action: Action, *, take_up: bool) -> None:
        self._family.remote = Remote(self._family, os.getpid(), self._clock)
        self._following = Following(
            self._family,
            self.hearing,
            self._clock,
            start=lambda: self._start(note, index, action, take_up=True),
            remove=lambda notes: self._remove(note, index, action, notes),
            kill=lambda: kill_marked(self._equipment.task_id),
        )
        self._supervision.revive = self._following.follow
        # told before anything is started: whoever comes after a dead runner must know that there may be something
        if take_up:
            self._supervision.tell()
        else:
            self.heard_event(Event.PROVISION, tell=True)

    def _start(self, note: ActionNote, index: int, action: Action, *, take_up: bool) -> int:
        context = self._context(note, index, (self._output.stdout, self._output.stderr), take_up=take_up)
        stdin = pipe.begin() if (pipe := self._equipment.input) is not None and wants_input(action) else None
        try:
            return registry.start(action, replace(context, say=self.hearing.begin(), stdin=stdin))
        finally:
            self.hearing.begun()
            if stdin is not None:
                os.close(stdin)

    def _remove(self, note: ActionNote, index: int, action: Action, notes: int) -> int:
        engine = note.container.engine if note.container is not None else action.parameters.get("engine")
        return registry.remove(engine or None, self._context(note, index, (notes, notes), take_up=True))

    def _context(self, note: ActionNote, index: int, streams: tuple[int, int], *, take_up: bool) -> Context:
        plain = self._equipment.context(index, *streams, None)
        return self._equipment.speaking_context(plain, tries=note.tries, take_up=take_up)

    def conclude(self, note: ActionNote, index: int, action: Action, cut: str | None) -> Outcome:
        """After the end of a try: how it ended, by the machine's words or else by its process's end."""
        failpoint.reach("runner.machine-ended")
        self.hearing.end()
        _unlink(self._equipment.keep(index, note.tries))
        if self._following is not None and self._following.left and note.container is not None:
            note.container = replace(note.container, left=True)
        ending = self.hearing.ending
        if ending is None:
            ending = self._by_process(action)
        outcome = OUTCOMES[cut] if cut else ending.outcome
        note.end_try(self._report.now(), outcome, None, self._output.size())
        note.exit_code, note.signal = ending.exit_code, ending.signal
        if ending.oom_killed is not None:
            note.oom_killed = ending.oom_killed
        if cut is None or ending.outcome is Outcome.LOST:
            why = why_not(ending, unstarted=is_remote(action) and not self.hearing.running)
            note.error = self._report.shortened(why) if why is not None else note.error
        return outcome

    def _by_process(self, action: Action) -> Ending:
        ended = self._family.ended
        code = None if ended is None else os.waitstatus_to_exitcode(ended)
        if is_remote(action):  # ended by a stop, before anything was started or by force
            return Ending(outcome=Outcome.FAILED)
        if code is not None and code < 0:
            return Ending(outcome=Outcome.FAILED, signal=signals.name_of(-code))
        return Ending(outcome=Outcome.SUCCEEDED if code == 0 else Outcome.FAILED, exit_code=code)

    # -- what is heard

    def heard_event(self, event: Event, *, tell: bool = True) -> None:
        """It fetches what it needs (PROVISION), or what it was asked for runs (SPAWN)."""
        state = self._report.state
        if state in (State.STARTING, State.PROVISIONING, State.RUNNING) and event in TRANSITIONS[state]:
            self._supervision.enter(event)
        elif tell and event is Event.PROVISION:
            self._supervision.tell()

    def heard_paused(self, paused: bool) -> None:
        """Everything of it is frozen, or goes on."""
        if self._family.remote is None:
            return
        if paused:
            self._supervision.hold()
        else:
            self._supervision.release()

    def heard_process(self, pid: int) -> None:
        """What it runs has this first process, of this machine."""
        self._first = process.look(pid)

    def elsewhere(self) -> list[Process]:
        """The processes of what a machine runs elsewhere, where they are to be seen."""
        first = self._first
        now = process.look(first.pid) if first is not None and self._family.running else None
        if now is None or first is None or now.start_time != first.start_time:
            return []
        return [now, *process.descendants(now.pid)]

    def heard_news(self) -> None:
        """Its container or its ending is known, or known better."""
        ending, container = self.hearing.ending, self.hearing.container
        if ending is not None:
            failpoint.reach("runner.heard-ending")
        # a stop that comes later ends nothing, though output is still to be copied
        if ending is not None or (container is not None and container.has_ended):
            self._family.over = self._family.remote is not None
        note = self._report.note
        if note is not None and note.container != self.hearing.container:
            note.container = self.hearing.container
            self._supervision.tell()


def why_not(ending: Ending, *, unstarted: bool) -> str | None:
    """Why it did not succeed, if there is more to say than an exit code or a signal. Pure."""
    match ending.outcome:
        case Outcome.LOST:
            return f"how it ended is not known: {ending.reason}"
        case Outcome.FAILED if ending.reason is not None:
            return f"provisioning failed: {ending.reason}" if unstarted else ending.reason
        case Outcome.FAILED if ending.oom_killed:
            return "out of memory: the kernel killed processes of its container"
    return None


def kill_marked(task_id: str) -> list[Process]:
    """Kill what carries the task's mark, where no engine does; returns who is left. Who has been killed lives until it
    gets a processor to die on: so many seconds are waited for that."""
    deadline, pause, late = time.monotonic() + DYING, KILL_INTERVAL, False
    while tree.kill_marked(task_id) and not late:
        late = time.monotonic() >= deadline  # and is looked for once more: it may be us who stood still
        time.sleep(pause)
        pause = min(2 * pause, DYING / 10)
    return process.marked(task_id)


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        pass  # there is none; or it is removed with the task
