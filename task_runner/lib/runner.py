"""The runner: one process that carries out one attempt of one task, and the only one who knows how it ended.

Rule 1: nothing of the task starts before the attempt is claimed (lib/lock.py).
Rule 2: whatever the task starts comes back to the runner: it is a child subreaper. Having no children, seen by
        wait4 failing with ECHILD, is the proof that nothing of the task lives. The last status is written then.
Rule 3: the runner waits in one place, `_turn`, for signals and for time. It never waits for a file, the daemon,
        or the output: that goes from the command to the file without passing here.

Theory: actions run in order. Each is a child process (machines/). A stop, a time limit, or processes left behind
by a command that ended, all become a `Stop` (lib/stop.py): polite signal, grace, kill. Pausing freezes the tree
and moves every deadline by the time it lasted.

WARNING: this module and all it imports is loaded once in the launcher and then forked for every task. What it
imports costs memory in every runner; what it does at import is done once. It must not start threads.
"""

from __future__ import annotations

import ctypes
import functools
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from task_runner.errors import StartFailed
from task_runner.lib import doorbell, lock, process, signals, tree
from task_runner.lib.clock import Clock, SystemClock, stamp
from task_runner.lib.statusfile import StatusWriter
from task_runner.lib.stop import Stop, StopOrder, read_order
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.machines import registry
from task_runner.machines.base import Context
from task_runner.model.spec import Spec
from task_runner.model.state import Event, Outcome, State, step
from task_runner.model.status import ActionStatus, Output, Receipt, Status, Usage

_libc = ctypes.CDLL(None)
_PR_SET_CHILD_SUBREAPER = 36
_INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR")


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a runner is told beside its spec."""

    #: the FIFO to ring; none: nobody to tell
    bell: str | None = None
    heartbeat_seconds: float = 10.0
    #: where tasks keep the locks they share
    locks: str = "/tmp"  # noqa: S108


@functools.cache
def base_environment() -> dict[str, str]:
    """What every command finds in its environment: the basics, and nothing else the daemon was given."""
    basics = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    basics.update({name: value for name, value in os.environ.items() if name.startswith("LC_")})
    basics.setdefault("PATH", os.defpath)
    return basics


#: seconds a command must live for its start to be told: most that end sooner are told of once, not twice
TELL_AFTER = 0.02


class TaskRunner:
    """Carries out one attempt of one task. `run` returns when nothing of it is alive any more."""

    def __init__(
        self,
        task_id: str,
        spec: Spec,
        directory: AttemptDirectory,
        options: Options,
        *,
        clock: Clock | None = None,
        on_turn: Callable[[], None] | None = None,
    ) -> None:
        self._id = task_id
        self._spec = spec
        self._directory = directory
        self._options = options
        self._clock: Clock = clock or SystemClock()
        self._on_turn = on_turn
        self._actions = [
            ActionStatus(index=index, machine=action.machine, name=action.name)
            for index, action in enumerate(spec.actions)
        ]
        self._writer = StatusWriter(directory, self._actions)
        self._index = -1
        self._main = 0  # pid of the running action's first process
        self._ended: tuple[int, resource.struct_rusage] | None = None  # how that one ended
        self._childless = True
        self._stop: Stop | None = None
        self._order: StopOrder | None = None  # the first request that is to end the whole task
        self._interrupted = False  # that request found an action running, or kept one from starting
        self._receipt: Receipt | None = None
        self._paused_since: float | None = None
        self._paused_seconds = 0.0
        self._behind = False  # the status file lacks the last change
        self._tell_at: float | None = None  # when to tell that a command runs

    def claim(self) -> None:
        """Make this attempt ours, with all it will need. Raises AlreadyClaimed, OSError.

        Where there is no space for its files the claim is given back: nothing was started, so it may be tried again.
        """
        _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._pid = os.getpid()
        self._me = process.identify(self._pid)
        self._lock = lock.claim(self._directory, self._me, self._clock.time(), self._clock.monotonic())
        try:
            self._writer.reserve()
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            self._log = os.open(self._directory.output, flags, 0o600)
        except OSError:
            os.unlink(self._directory.lock)
            raise
        self._inbox = signals.Inbox()
        self._usage_before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._poll = select.poll()
        self._poll.register(self._inbox.fd, select.POLLIN)

    def close(self) -> None:
        """Let go of what `claim` took; for a process that goes on after its task."""
        self._inbox.close()
        self._lock.close()
        self._writer.close()
        os.close(self._log)

    def run(self) -> Status:
        """Run the actions in order; returns the last status, which has been written."""
        self._state = State.STARTING
        self._status = self._first_status()
        now = self._clock.monotonic()
        self._next_beat = now + self._options.heartbeat_seconds
        limit = self._spec.timeout_seconds
        self._deadline = None if limit is None else now + limit
        self._turn(0)
        for index in range(len(self._actions)):
            self._sit_out_pause()
            if self._order is not None:
                self._interrupted = True
                break
            self._index = index
            if not self._run_action(index):
                break
        return self._finish()

    # -- one action

    def _run_action(self, index: int) -> bool:
        """Run one action to its end; returns whether it succeeded."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        self._change(index, state="running", started_at=self._now(), output_start=self._output_size())
        self._ended, self._childless, self._stop = None, False, None
        try:
            self._main = registry.start(self._spec.actions[index], self._context(index))
        except StartFailed as error:
            self._change(index, state="exited", finished_at=self._now(), error=_short(str(error)))
            return False
        self._change(index, process=process.identify(self._main))
        self._enter(Event.SPAWN, tell=False)
        self._tell_at = self._clock.monotonic() + TELL_AFTER
        while not self._over():
            self._turn(self._patience())
        return self._close_action(index, before)

    def _over(self) -> bool:
        """Whether the action and all it started has ended; presses on with what must end."""
        if self._childless:
            return True
        if self._stop is None:
            if self._ended is not None and self._paused_since is None:
                self._begin_stop(StopOrder("leftovers", signal.SIGTERM, self._spec.grace_seconds))
            return False
        return not self._stop.press()

    def _close_action(self, index: int, before: resource.struct_rusage) -> bool:
        if self._stop is not None:
            self._receipt, self._stop = self._stop.receipt(), None
        self._tell_at = None
        code = number = None
        if self._ended is not None:
            result = os.waitstatus_to_exitcode(self._ended[0])
            code, number = (result, None) if result >= 0 else (None, signals.name_of(-result))
        self._change(
            index,
            state="exited",
            exit_code=code,
            signal=number,
            finished_at=self._now(),
            usage=_usage(resource.getrusage(resource.RUSAGE_CHILDREN), before),
            output_end=self._output_size(),
        )
        return code == 0 and not self._interrupted

    def _context(self, index: int) -> Context:
        env = dict(base_environment())
        env[process.MARK] = self._id
        env["TASK_RUNNER_ATTEMPT"] = str(self._directory.attempt)
        env["TASK_RUNNER_ACTION"] = str(index)
        return Context(
            task_id=self._id,
            attempt=self._directory.attempt,
            action_index=index,
            work=self._directory.work,
            env=env,
            stdout=self._log,
            stderr=self._log,
            locks=self._options.locks,
        )

    # -- the one place to wait

    def _patience(self) -> float:
        """Seconds until something must be done without a signal."""
        times = [self._next_beat]
        if self._tell_at is not None:
            times.append(self._tell_at)
        if self._stop is not None:
            times.append(self._stop.kill_at)
        elif self._deadline is not None and self._paused_since is None and self._order is None:
            times.append(self._deadline)
        patience = min(times) - self._clock.monotonic()
        return min(patience, 0.1) if self._on_turn else patience

    def _turn(self, patience: float) -> None:
        """Wait for signals or time, and do what they ask for."""
        if self._poll.poll(max(0, int(patience * 1000) + 1) if patience > 0 else 0):
            for number in self._inbox.read():
                self._obey(number)
        self._reap()
        now = self._clock.monotonic()
        if now >= self._next_beat:
            self._next_beat = now + self._options.heartbeat_seconds
            self._lock.beat(self._clock.time(), now)
            if self._behind:
                self._write()
        if self._tell_at is not None and now >= self._tell_at and not self._childless:
            self._write()
        if self._deadline is not None and now >= self._deadline and self._paused_since is None:
            self._deadline = None
            self._request(
                StopOrder("timeout", signals.parse(self._spec.stop_signal), self._spec.grace_seconds)
            )
        if self._on_turn is not None:
            self._on_turn()

    def _reap(self) -> None:
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self._childless = True
                return
            if pid == 0:
                return
            if pid == self._main and self._ended is None:
                self._ended = (status, usage)

    # -- what signals ask for

    def _obey(self, number: int) -> None:
        if number in signals.STOPS:
            self._request(read_order(self._directory, self._spec))
        elif number == signals.PAUSE:
            self._pause()
        elif number == signals.RESUME:
            self._resume()
        elif (wanted := signals.forwarded(number)) is not None and self._ended is None and self._main:
            os.kill(self._main, wanted)  # our own child, not yet waited for: the pid is its own

    def _request(self, order: StopOrder) -> None:
        """End the whole task. The first request counts; a later one can only shorten the grace."""
        if self._order is None:
            self._order = order
            self._interrupted = self._main != 0 and self._ended is None
        if self._stop is not None:
            self._stop.hasten(order)
        elif self._main and not self._childless:
            self._begin_stop(order)

    def _begin_stop(self, order: StopOrder) -> None:
        if self._paused_since is not None:
            self._end_pause()
        if order.reason != "leftovers":
            self._enter(Event.STOP)
        self._stop = Stop(self._pid, self._clock, order)
        self._stop.begin()

    def _pause(self) -> None:
        if self._state is State.RUNNING and self._stop is None:
            tree.freeze(self._pid)
            self._paused_since = self._clock.monotonic()
            self._status = replace(self._status, paused_at=self._now())
            self._enter(Event.PAUSE)

    def _resume(self) -> None:
        if self._paused_since is not None:
            self._end_pause()
            tree.thaw(self._pid)
            self._enter(Event.RESUME)

    def _sit_out_pause(self) -> None:
        """Between two actions: a pause that came as the last one ended holds the next."""
        while self._paused_since is not None and self._order is None:
            self._turn(self._patience())

    def _end_pause(self) -> None:
        assert self._paused_since is not None
        lasted = self._clock.monotonic() - self._paused_since
        self._paused_since = None
        self._paused_seconds += lasted
        if self._deadline is not None:
            self._deadline += lasted
        self._status = replace(self._status, paused_at=None, paused_seconds=self._paused_seconds)

    # -- what is reported

    def _now(self) -> str:
        return stamp(self._clock.time())

    def _output_size(self) -> int:
        return os.fstat(self._log).st_size

    def _output(self) -> Output:
        seen = os.fstat(self._log)
        return Output(bytes=seen.st_size, written_at=stamp(seen.st_mtime) if seen.st_size else None)

    def _change(self, index: int, **changes: object) -> None:
        self._actions[index] = replace(self._actions[index], **changes)  # type: ignore[arg-type]

    def _first_status(self) -> Status:
        return Status(
            task_id=self._id,
            attempt=self._directory.attempt,
            runner=self._me,
            state=self._state,
            heartbeat=self._lock.beat(self._clock.time(), self._clock.monotonic()),
            started_at=self._now(),
        )

    def _enter(self, event: Event, *, tell: bool = True) -> None:
        """Move to the next state and tell it."""
        if event is Event.SPAWN and self._state is State.RUNNING:
            pass  # the next action of a running task
        else:
            self._state = step(self._state, event)
        if tell:
            self._write()

    def _current(self) -> Status:
        return replace(
            self._status,
            state=self._state,
            current_action_idx=self._index,
            actions=self._actions,
            heartbeat=self._lock.beat(self._clock.time(), self._clock.monotonic()),
            output=self._output(),
            receipt=self._receipt,
        )

    def _write(self) -> None:
        self._tell_at = None
        self._behind = not self._writer.write(self._current())
        if self._options.bell is not None:
            doorbell.ring(self._options.bell, self._id)

    def _finish(self) -> Status:
        """Write how it ended: the one thing for which there is space on a full disk."""
        if self._paused_since is not None:
            self._end_pause()
        self._state = step(self._state, Event.END)
        decisive = self._actions[max(self._index, 0)]
        last = replace(
            self._current(),
            outcome=self._outcome(),
            exit_code=decisive.exit_code,
            signal=decisive.signal,
            error=decisive.error,
            finished_at=self._now(),
            usage=_usage(resource.getrusage(resource.RUSAGE_CHILDREN), self._usage_before),
        )
        self._writer.write_last(last)
        if self._options.bell is not None and not doorbell.ring(self._options.bell, self._id):
            self._writer.sync()
        return last

    def _outcome(self) -> Outcome:
        if self._interrupted and self._order is not None:
            return Outcome.TIMED_OUT if self._order.reason == "timeout" else Outcome.CANCELLED
        succeeded = all(action.exit_code == 0 for action in self._actions)
        return Outcome.SUCCEEDED if succeeded else Outcome.FAILED


def _short(error: str) -> str:
    """The beginning and the end of an error: there is not room for any length in the last status."""
    return error if len(error) <= 300 else f"{error[:150]} … {error[-140:]}"


def _usage(now: resource.struct_rusage, before: resource.struct_rusage) -> Usage:
    """What the kernel counted since ``before``.

    For the peak it knows no "since", and a command's peak begins with the memory of the runner that became it:
    one that is not above the runner's own says nothing of the command, so it is unknown.
    """
    user, system = now.ru_utime - before.ru_utime, now.ru_stime - before.ru_stime
    own_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return Usage(
        cpu_seconds=round(user + system, 6),
        user_seconds=round(user, 6),
        system_seconds=round(system, 6),
        max_rss_bytes=now.ru_maxrss * 1024 if now.ru_maxrss > own_peak else None,
        read_bytes=(now.ru_inblock - before.ru_inblock) * 512,
        written_bytes=(now.ru_oublock - before.ru_oublock) * 512,
    )


if __name__ == "__main__":
    from task_runner.lib.foreground import main

    time.tzset()
    sys.exit(main(sys.argv))
