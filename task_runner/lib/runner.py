"""The runner: one process that carries out one attempt of one task, and the only one who knows how it ended.

Rule 1: nothing of the task starts before the attempt is claimed (lib/lock.py).
Rule 2: whatever the task starts comes back to the runner: it is a child subreaper. Having no children, seen by
        wait4 failing with ECHILD, is the proof that nothing of the task lives (lib/family.py says what a filter
        changes). The last status is written then.
Rule 3: the runner waits in one place (lib/supervision.py).

Theory: files are placed, actions run in order, then the cleanup does, whatever happened. Each is a child process
(machines/), and what it leaves behind is cleared before the next one starts.

WARNING: this module and all it imports is loaded once in the launcher and then forked for every task. What it
imports costs memory in every runner; what it does at import is done once. It must not start threads.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from task_runner.errors import StartFailed
from task_runner.lib import failpoint, lock, process, provision, walls
from task_runner.lib.clock import Clock, SystemClock
from task_runner.lib.equipment import Equipment, Options, may_say
from task_runner.lib.family import Family
from task_runner.lib.outputlog import OutputLog
from task_runner.lib.report import Report
from task_runner.lib.supervision import Supervision
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.lib.tasktime import TaskTime
from task_runner.lib.tries import Tries
from task_runner.lib.verdict import judge
from task_runner.machines import registry
from task_runner.model.grant import Grant
from task_runner.model.spec import Action, Spec
from task_runner.model.state import Event, Outcome
from task_runner.model.status import Status
from task_runner.model.terms import StallThen

if TYPE_CHECKING:
    from task_runner.lib.succession import Legacy

_libc = ctypes.CDLL(None)
_PR_SET_CHILD_SUBREAPER = 36


class TaskRunner:
    """Carries out one attempt of one task. `run` returns when nothing of it is alive any more."""

    def __init__(
        self,
        task_id: str,
        spec: Spec,
        directory: AttemptDirectory,
        options: Options,
        *,
        grant: Grant | None = None,
        clock: Clock | None = None,
        on_turn: Callable[[], None] | None = None,
    ) -> None:
        self._spec = spec
        self._directory = directory
        self._gpus = grant.gpus if grant else []
        self._clock: Clock = clock or SystemClock()
        self._time = TaskTime(self._clock)
        filtered = walls.needs_filter(spec, grant, os.geteuid())
        self._output = OutputLog(directory, spec, grant.secrets if grant else {}, filtered=filtered)
        self._report = Report(task_id, spec, directory, self._clock, bell=options.bell, gpus=self._gpus)
        self._equipment = Equipment(task_id, spec, directory, options, grant)
        self._options = options
        self._on_turn = on_turn
        self._legacy: Legacy | None = None
        self._error: str | None = None  # why the task failed before, or apart from, any action

    def claim(self, *, take_up: bool = False) -> None:
        """Make this attempt ours, with all it will need. Raises AlreadyClaimed, OSError.

        Where there is no space for its files the claim is given back: nothing was started, so it may be tried again.
        ``take_up``: it was another runner's, which is dead, and its action goes on (lib/succession.py).
        """
        inheritance = self._inherit() if take_up else None
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        pid = os.getpid()
        me = process.identify(pid)
        self._family = Family(pid, self._clock, self._output)
        self._supervision = Supervision(
            self._spec,
            self._directory,
            self._clock,
            self._report,
            self._family,
            self._time,
            heartbeat_seconds=self._options.heartbeat_seconds,
            on_turn=self._on_turn,
        )
        now = self._clock.time(), self._clock.monotonic()
        if inheritance is None:
            self._lock = lock.claim(self._directory, me, *now, self._gpus)
        try:
            self._report.writer.reserve()
            self._output.open()
            self._equipment.open(self._output, self._clock, self._supervision.tell, self._supervision.poll)
            if inheritance is not None:
                self._lock = inheritance.take(me, *now, self._gpus)
        except OSError:
            self._equipment.close()
            if inheritance is None:
                os.unlink(self._directory.lock)
            raise
        self._family.group = self._report.group = self._equipment.group
        self._report.limits, self._report.user_id = self._equipment.limits, self._equipment.user_id
        self._tries = Tries(
            self._spec, self._directory, self._clock, self._output, self._family, self._supervision, self._report,
            self._equipment,
        )  # fmt: skip
        self._equip(pid)
        self._supervision.open(self._equipment.parts)
        self._report.open(me, self._lock, self._output)

    def _inherit(self) -> lock.Inheritance:
        """Raises AlreadyClaimed where there is nothing to go on with."""
        from task_runner.lib import inheriting  # as few runners do that

        inheritance, self._legacy = inheriting.inherit(self._directory, self._clock)
        return inheritance

    def _equip(self, pid: int) -> None:
        """What is not needed to claim, and only tasks that ask for it have."""
        if self._family.group is None and any(action.beside for action in self._spec.all_actions):
            from task_runner.lib.strays import Strays

            self._family.group = Strays(self._equipment.task_id)
        if any(may_say(action) for action in self._spec.all_actions):
            self._tries.listen()
        if (progress := self._equipment.progress) is not None:
            self._report.progress = lambda: progress.newest
        if (pipe := self._equipment.input) is not None:
            self._report.input_bytes = lambda: pipe.passed
        if self._spec.stall is not None:
            self._equipment.watch_silence(
                pid, self._family, self._time, self._clock, self._output, self._silence_changed,
                self._tries.elsewhere,
            )  # fmt: skip

    def close(self) -> None:
        """Let go of what `claim` took; for a process that goes on after its task."""
        self._supervision.close()
        self._lock.close()
        self._report.writer.close()
        self._output.close()

    def run(self) -> Status:
        """Run the actions in order and then the cleanup; returns the last status, which has been written."""
        if self._legacy is not None:
            return self._go_on(self._legacy)
        self._supervision.limit(self._spec.timeout_seconds)
        self._supervision.turn(0)
        prepared = self._prepare()
        if prepared:
            self._run_actions()
        if self._spec.cleanup and self._equipment.obstacle is None:
            self._clean_up()
        return self._finish(prepared)

    def _go_on(self, legacy: Legacy) -> Status:
        """The same from where a dead runner was."""
        from task_runner.lib import inheriting

        failpoint.reach("runner.took-over")
        note, index, own = self._report.inherit(legacy.status), legacy.action.index, len(self._spec.actions)
        self._time.inherit(legacy.status.paused_seconds, legacy.paused)
        inheriting.go_on(self._supervision, self._spec, legacy)
        action = self._spec.all_actions[index]
        outcome = self._tries.run(index, action, note, legacy)
        if index >= own:
            self._run_cleanup(index + 1)
            return self._finish(True)
        if not self._ends(action, outcome):
            self._run_actions(index + 1)
        if self._spec.cleanup:
            self._clean_up()
        return self._finish(True)

    # -- the steps

    def _prepare(self) -> bool:
        """See that all is there that the actions need; returns whether it is."""
        if (obstacle := self._equipment.obstacle) is not None:
            self._error = self._report.shortened(obstacle)
            return False
        if absent := self._equipment.absent_secrets():
            self._error = self._report.shortened(f"secrets: the server has given no {', no '.join(absent)}")
            return False
        if not self._spec.files or self._supervision.must_end:
            return True
        self._supervision.enter(Event.PROVISION)
        self._error = self._place_files()
        return self._error is None

    def _place_files(self) -> str | None:
        """Returns why the files could not be placed."""
        notes = provision.open_notes()
        self._supervision.begin_try(None)
        self._tries.begin_silence()
        try:
            context = self._equipment.context(-1, notes, notes, None)
            self._family.main = registry.place_files(self._spec.files, context)
            self._supervision.see_out()
            self._tries.keep_receipt()
            error = provision.error_of(notes, self._family.ended)
        except StartFailed as failure:
            self._family.childless = True
            error = f"files: {failure}"
        finally:
            os.close(notes)
        return None if error is None or self._supervision.interrupted else self._report.shortened(error)

    def _run_actions(self, first: int = 0) -> None:
        supervision = self._supervision
        for index, action in enumerate(self._spec.actions[first:], first):
            supervision.sit_out_pause()
            if supervision.must_end:
                supervision.kept_from_starting()
                return
            if index:
                failpoint.reach("runner.next-action")
            if self._ends(action, self._tries.run(index, action)):
                return

    def _ends(self, action: Action, outcome: Outcome) -> bool:
        """Whether the actions after this one do not run."""
        if self._supervision.interrupted or outcome is Outcome.LOST:
            return True
        return outcome is not Outcome.SUCCEEDED and not action.continue_on_failure

    def _clean_up(self) -> None:
        own = len(self._spec.actions)
        self._report.skip(own)
        self._supervision.begin_cleanup(self._spec.cleanup_seconds)
        failpoint.reach("runner.cleanup")
        self._run_cleanup(own)

    def _run_cleanup(self, first: int) -> None:
        """Run every action of the cleanup, while there is time."""
        for index, action in enumerate(self._spec.cleanup[first - len(self._spec.actions) :], first):
            self._supervision.sit_out_pause()
            if self._supervision.must_end:
                return
            self._tries.run(index, action)

    # -- silence

    def _silence_changed(self) -> None:
        stall, policy = self._equipment.stall, self._spec.stall
        assert stall is not None
        assert policy is not None
        if policy.then is StallThen.STOP and stall.silence is not None and not self._supervision.cleaning:
            self._error = f"stopped: {stall.reason}"
            self._supervision.request(self._supervision.order_for("stalled"))
        else:
            self._supervision.tell()

    # -- the end

    def _finish(self, prepared: bool) -> Status:
        """Write how it ended."""
        supervision, report = self._supervision, self._report
        report.silence = None
        report.skip(len(report.actions))
        if self._equipment.forwarding is not None:
            self._equipment.forwarding.end(self._output.size())
        self._equipment.close()
        report.accounting = self._equipment.accounting
        why = supervision.order.reason if supervision.order and supervision.interrupted else None
        tolerated = [each.continue_on_failure for each in self._spec.all_actions]
        verdict = judge(report.actions, tolerated, interrupted_by=why, prepared=prepared)
        supervision.end(Event.VANISH if verdict.outcome is Outcome.LOST else Event.END)
        error = self._error if why == "stalled" or not prepared else None
        return report.tell_last(verdict.outcome, verdict.decisive, error)


if __name__ == "__main__":
    from task_runner.lib.foreground import main

    time.tzset()
    sys.exit(main(sys.argv))
