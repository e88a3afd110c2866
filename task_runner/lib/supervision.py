"""The runner's one loop: waits for signals, time, and what a task's parts wait for; does what they ask for.

Rule 1: `turn` is the one place where the runner waits. It never waits for a file, the daemon, or the output.
Rule 2: limits are set by the task's own time (lib/tasktime.py), so a pause holds them all.
Rule 3: a request ends the actions and never the cleanup. That ends by its own limits alone.

A stop, a time limit, or processes left behind by a command that ended, all become a `Stop` (lib/stop.py): polite
signal, grace, kill.
"""

from __future__ import annotations

import select
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace

from task_runner.lib import signals
from task_runner.lib.clock import Clock
from task_runner.lib.equipment import Part
from task_runner.lib.family import Family
from task_runner.lib.report import Report
from task_runner.lib.stop import StopOrder, read_order
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.lib.tasktime import TaskTime
from task_runner.model.spec import Spec
from task_runner.model.state import Event, State, step

#: seconds a command must live for its start to be told: most that end sooner are told of once, not twice
TELL_AFTER = 0.02
#: reasons that end one action and not the task
_OF_ONE_ACTION = frozenset({"leftovers", "action timeout", "cleanup timeout"})
#: states that another start does not change
_GOING_ON = frozenset({State.RUNNING, State.PAUSED, State.STOPPING})


class Supervision:
    """Waits, and keeps the task within what was asked for and allowed."""

    def __init__(
        self,
        spec: Spec,
        directory: AttemptDirectory,
        clock: Clock,
        report: Report,
        family: Family,
        time: TaskTime,
        *,
        heartbeat_seconds: float,
        on_turn: Callable[[], None] | None,
    ) -> None:
        self._spec = spec
        self._directory = directory
        self._clock = clock
        self._report = report
        self._family = family
        self._time = time
        self._heartbeat_seconds = heartbeat_seconds
        self._on_turn = on_turn
        self._parts: Sequence[Part] = ()
        self.poll = select.poll()
        #: the first request that is to end the whole task
        self.order: StopOrder | None = None
        #: that request found an action running or waiting, or kept one from starting
        self.interrupted = False
        #: why the action at hand was ended, if it did not end by itself
        self.cut: str | None = None
        #: the cleanup has begun
        self.cleaning = False
        #: called when all processes of an action have ended: whether it has started another
        self.revive: Callable[[], bool] | None = None
        self._expired = False  # and has had all its time
        self._limit: float | None = None  # of the actions together, then of the cleanup; task time, like the next two
        self._try_limit: float | None = None
        self._wait_until: float | None = None
        self._tell_at: float | None = None  # when to tell that a command runs

    def open(self, parts: Sequence[Part]) -> None:
        """Begin to take note of signals."""
        self._parts = parts
        self._inbox = signals.Inbox()
        self.poll.register(self._inbox.fd, select.POLLIN)
        self._next_beat = self._clock.monotonic() + self._heartbeat_seconds

    def close(self) -> None:
        self._inbox.close()

    # -- the steps of a task

    def limit(self, seconds: float | None) -> None:
        """How long the actions may run from now, all together."""
        self._limit = None if seconds is None else self._time.now() + seconds

    def begin_cleanup(self, seconds: float) -> None:
        """From here on no request ends anything; the cleanup may take so long."""
        self.cleaning = True
        self.limit(seconds)
        if self.interrupted and self._report.state is not State.STOPPING:
            self.enter(Event.STOP)

    @property
    def must_end(self) -> bool:
        """No further action may start."""
        return self._expired if self.cleaning else self.order is not None

    def kept_from_starting(self) -> None:
        """What was to come next may not: the request that is to end the task has cut it short, though it came when
        nothing ran."""
        if not self.cleaning:
            self.interrupted = True

    def begin_try(self, seconds: float | None) -> None:
        """An action is about to start, which may run for so long."""
        self._family.expect()
        self.cut = self.revive = None
        self._try_limit = None if seconds is None else self._time.now() + seconds

    def started(self) -> None:
        """It has a process."""
        if self._family.remote is None:  # else it says when it runs
            self.enter(Event.SPAWN, tell=False)
        self._tell_at = self._clock.monotonic() + TELL_AFTER

    def see_out(self) -> None:
        """Wait until it has ended with all that it started; press on with what must end."""
        while not self._over():
            self.turn()
        self._try_limit = self._tell_at = None

    def wait(self, seconds: float) -> bool:
        """Wait before another try, pauses not counted; False where there must not be one."""
        until = self._wait_until = self._time.now() + seconds
        while not self.must_end and self._time.now() < until:
            self.turn()
        self._wait_until = None
        self.sit_out_pause()
        return not self.must_end

    def sit_out_pause(self) -> None:
        """Between two actions: a pause that came as the last one ended holds the next."""
        while self._time.paused and not self.must_end:
            self.turn()

    def _over(self) -> bool:
        family = self._family
        if family.childless:
            return self.revive is None or not self.revive()
        if family.stop is None:
            if family.ended is not None and not self._time.paused:
                self._begin_stop(StopOrder("leftovers", signal.SIGTERM, self._spec.grace_seconds))
            return False
        return not family.stop.press()

    # -- the one place to wait

    def turn(self, patience: float | None = None) -> None:
        """Wait for signals, time, or something to read, and do what they ask for."""
        patience = self._patience() if patience is None else patience
        ready = self.poll.poll(int(patience * 1000) + 1 if patience > 0 else 0)
        if ready:
            for number in self._inbox.read():
                self._obey(number)
        self._family.reap()
        now = self._clock.monotonic()
        for part in self._parts:
            part.turn(now)
        if now >= self._next_beat:
            self._next_beat = now + self._heartbeat_seconds
            self._report.beat()
            if self._report.behind:
                self.tell()
        if self._tell_at is not None and now >= self._tell_at and not self._family.childless:
            self.tell()
        self._keep_limits()
        if self._on_turn is not None:
            self._on_turn()

    def _patience(self) -> float:
        """Seconds until something must be done though nothing is to be read."""
        now, stop = self._clock.monotonic(), self._family.stop
        times = [self._next_beat, self._tell_at, stop.kill_at if stop is not None else None]
        times += [part.due() for part in self._parts]
        if not self._time.paused:
            ahead = now - self._time.now()
            times += [at + ahead for at in (self._limit, self._try_limit, self._wait_until) if at is not None]
        rest = min(at for at in times if at is not None) - now
        return min(rest, 0.1) if self._on_turn else rest

    def _keep_limits(self) -> None:
        if self._limit is not None and self._time.now() >= self._limit:
            self._limit = None
            if self.cleaning:
                self._expired = True
                self._cut_short("cleanup timeout")
            else:
                self.request(self.order_for("timeout"))
        if self._try_limit is not None and self._time.now() >= self._try_limit:
            self._try_limit = None
            if self._family.running:
                self._cut_short("action timeout")

    # -- what signals ask for

    def _obey(self, number: int) -> None:
        if number in signals.STOPS:
            self.request(read_order(self._directory, self._spec))
        elif number == signals.PAUSE:
            self._pause()
        elif number == signals.RESUME:
            self._resume()
        elif (wanted := signals.forwarded(number)) is not None and self._family.running:
            self._family.send(wanted)

    def order_for(self, reason: str) -> StopOrder:
        """A stop as the spec says."""
        return StopOrder(reason, signals.parse(self._spec.stop_signal), self._spec.grace_seconds)

    def request(self, order: StopOrder) -> None:
        """End the whole task. The first request counts; a later one can only shorten the grace."""
        if self.cleaning:
            self._resume()  # it must come to its end
            return
        if self.order is None:
            self.order = order
            self.interrupted = self._family.running or self._wait_until is not None
        self._end_action(order)
        self._end_pause()  # also where there was nobody to stop

    def _cut_short(self, reason: str) -> None:
        """End the action at hand alone."""
        self._end_action(self.order_for(reason))

    def _end_action(self, order: StopOrder) -> None:
        if self._family.running and self.cut is None:
            self.cut = order.reason
        if self._family.stop is not None:
            self._family.stop.hasten(order)
        elif self._family.main and not self._family.childless:
            self._begin_stop(order)

    def _begin_stop(self, order: StopOrder) -> None:
        self._end_pause()
        if order.reason not in _OF_ONE_ACTION:
            self.enter(Event.STOP)
        self._family.end(order)
        if self._family.remote is not None and self._family.stop is not None and self.cut and not self.cleaning:
            # so that a runner that takes this up knows why it was being stopped, and whoever looks why it ends
            self._report.receipt = replace(self._family.stop.receipt(), finished_at=None)
            self.tell()

    def _pause(self) -> None:
        if self._report.state is State.RUNNING and self._family.stop is None:
            self._family.freeze()
            if self._family.remote is None:  # else it says when it is so
                self.hold()

    def _resume(self) -> None:
        if self._family.remote is not None and self._family.running:
            self._family.thaw()
        elif self._time.paused:
            self._family.thaw()
            self.release()

    def hold(self) -> None:
        """Nothing of the action runs any more."""
        if self._report.state is State.RUNNING and self._family.stop is None:
            self._time.stop()
            self._report.paused_at = self._report.now()
            self.enter(Event.PAUSE)

    def release(self) -> None:
        """It goes on."""
        if self._time.paused:
            self._end_pause()
            self.enter(Event.RESUME)

    def _end_pause(self) -> None:
        self._time.go_on()
        self._report.paused_at = None
        self._report.paused_seconds = self._time.paused_seconds

    # -- what is told

    def enter(self, event: Event, *, tell: bool = True) -> None:
        """Move to the next state and tell it."""
        state = self._report.state
        if event is not Event.SPAWN or state not in _GOING_ON:
            self._report.state = step(state, event)
        if tell:
            self.tell()

    def tell(self) -> None:
        """Tell how things stand."""
        self._tell_at = None
        self._report.tell()

    def end(self, event: Event) -> None:
        """It is all over, but for the last word."""
        self._end_pause()
        self._report.state = step(self._report.state, event)
