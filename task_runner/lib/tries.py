"""The tries of an action: each is started, seen out by the runner's loop, and closed; another follows where wanted."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING

from task_runner.errors import StartFailed
from task_runner.lib import backoff, process
from task_runner.lib.actionnote import ActionNote
from task_runner.lib.clock import Clock
from task_runner.lib.equipment import Equipment, may_say, wants_input
from task_runner.lib.family import Family
from task_runner.lib.outputlog import OutputLog
from task_runner.lib.process import Process
from task_runner.lib.report import Report
from task_runner.lib.supervision import Supervision
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.lib.verdict import OUTCOMES
from task_runner.machines import registry
from task_runner.model.spec import Action, Spec
from task_runner.model.state import Event, Outcome

if TYPE_CHECKING:
    from task_runner.lib.speech import Speech
    from task_runner.lib.succession import Legacy


class Tries:
    """Those of one attempt, which its parts are put to."""

    __slots__ = (
        "_spec", "_directory", "_clock", "_output", "_family", "_supervision", "_report", "_equipment", "_speech",
    )  # fmt: skip

    def __init__(
        self,
        spec: Spec,
        directory: AttemptDirectory,
        clock: Clock,
        output: OutputLog,
        family: Family,
        supervision: Supervision,
        report: Report,
        equipment: Equipment,
    ) -> None:
        self._spec = spec
        self._directory = directory
        self._clock = clock
        self._output = output
        self._family = family
        self._supervision = supervision
        self._report = report
        self._equipment = equipment
        self._speech: Speech | None = None  # none: no machine of this task has anything to say

    def listen(self) -> None:
        """Have machines heard that may say how they get on."""
        from task_runner.lib.speech import Speech  # as few tasks have that

        self._speech = Speech(self._equipment, self._family, self._supervision, self._report, self._output, self._clock)
        self._equipment.parts.append(self._speech.hearing)

    def elsewhere(self) -> Iterable[Process]:
        """Processes of the task that are none of our descendants."""
        return self._speech.elsewhere() if self._speech is not None else ()

    def begin_silence(self) -> None:
        """From now on the task has to give signs of getting on, where it is to."""
        if (stall := self._equipment.stall) is not None:
            stall.begin()
            self._report.silence = lambda: stall.silence

    def run(self, index: int, action: Action, note: ActionNote | None = None, legacy: Legacy | None = None) -> Outcome:
        """Run one action to its end, with all its tries; returns how the last one ended.

        ``legacy``: a dead runner has begun a try of it, which goes on.
        """
        note = note or self._report.begin_action(index)
        while True:
            outcome, legacy = self._try(note, index, action, legacy), None
            if action.retry is None or outcome is Outcome.LOST:
                return outcome
            wait = backoff.delay(action.retry, note.tries, outcome, backoff.chance())
            if wait is None:
                return outcome
            if self._supervision.must_end:
                self._supervision.kept_from_starting()
                return outcome
            note.state = "waiting"
            # one whose first try could not even be started counts as running: it can be paused and stopped
            self._supervision.enter(Event.SPAWN)
            if not self._supervision.wait(wait):
                note.state = "exited"
                return outcome

    def _try(self, note: ActionNote, index: int, action: Action, legacy: Legacy | None) -> Outcome:
        if legacy is None:
            note.begin_try(self._report.now(), self._output.size())
        spent = legacy.try_spent if legacy is not None else 0.0
        self._supervision.begin_try(None if action.timeout_seconds is None else action.timeout_seconds - spent)
        speech = self._speech if may_say(action) else None
        if (forwarding := self._equipment.forwarding) is not None:
            forwarding.begin(index, self._output.size())
        self.begin_silence()
        try:
            self._output.begin()
            if speech is None:
                self._family.main = self._start(index, action)
            else:
                self._family.main = speech.begin(note, index, action, take_up=legacy is not None)
        except (StartFailed, OSError) as error:
            self._family.childless = True
            self._output.end()
            note.error = self._report.shortened(str(error))
            note.end_try(self._report.now(), Outcome.FAILED, None, self._output.size())
            return Outcome.FAILED
        note.process = note.process or process.identify(self._family.main)
        self._supervision.started()
        if legacy is not None:
            self._family.over = legacy.over
            self._stop_again(legacy)
        self._supervision.see_out()
        return self._close_try(note, speech, index, action)

    def _start(self, index: int, action: Action) -> int:
        context, pipe = self._equipment.context, self._equipment.input
        stdout, stderr = self._output.stdout, self._output.stderr
        if pipe is None or not wants_input(action):
            return registry.start(action, context(index, stdout, stderr, None))
        stdin = pipe.begin()
        try:
            return registry.start(action, context(index, stdout, stderr, stdin))
        except StartFailed:
            pipe.end()
            raise
        finally:
            os.close(stdin)

    def _close_try(self, note: ActionNote, speech: Speech | None, index: int, action: Action) -> Outcome:
        if self._equipment.input is not None:
            self._equipment.input.end()
        self._output.end()
        self.keep_receipt()
        ended, cut = self._family.ended, self._supervision.cut
        if speech is not None:
            return speech.conclude(note, index, action, cut)
        result = None if ended is None else os.waitstatus_to_exitcode(ended)
        outcome = OUTCOMES[cut] if cut else Outcome.SUCCEEDED if result == 0 else Outcome.FAILED
        note.end_try(self._report.now(), outcome, result, self._output.size())
        return outcome

    def _stop_again(self, legacy: Legacy) -> None:
        from task_runner.lib import inheriting  # as few runners do that

        inheriting.stop_again(self._supervision, self._spec, self._directory, legacy)

    def keep_receipt(self) -> None:
        """The last stop counts; but what is cleared away behind the cleanup does not hide what was done before."""
        stop = self._family.stop
        if stop is None:
            return
        before = self._report.receipt
        if before is None or not self._supervision.cleaning or before.reason == "leftovers":
            self._report.receipt = stop.receipt()
        self._family.stop = None
