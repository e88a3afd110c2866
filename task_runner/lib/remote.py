"""What a machine runs elsewhere (a container), as the runner controls it: by signals to the machine's process.

Rule 1: that process passes on what it is sent (machines/say.py), and is asked before it is forced: it alone can end
        what it runs in an orderly way, and say how that ended.
Rule 2: it may die, and what it runs lives. Then another takes it up, which starts nothing (at most once).
Rule 3: what is left when all that has failed is removed by force, by one more process, which knows it by its labels.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field

from task_runner.errors import StartFailed
from task_runner.lib import provision, signals, tree
from task_runner.lib.clock import Clock, stamp
from task_runner.lib.family import Family
from task_runner.lib.hearing import LONGEST_TEXT, Ending, Hearing
from task_runner.lib.process import Process
from task_runner.lib.stop import GIVE_UP, KILL_INTERVAL, LISTED, StopOrder
from task_runner.machines import say
from task_runner.model.state import Outcome
from task_runner.model.status import Receipt

#: seconds in which a machine's process must have killed what it runs
OBEY = 10.0
#: seconds that removing by force may take
REMOVAL_SECONDS = 30.0
#: how often a machine's process that has died is followed by another, if each dies within so many seconds
TAKE_UPS, SETTLED = 5, 60.0
#: signals that no process can pass on, and what is sent for them
_INSTEAD: dict[int, int] = {signal.SIGKILL: say.KILL, signal.SIGSTOP: signal.SIGTSTP}


def send(family: Family, number: int) -> bool:
    """Have the machine's process pass on a signal; False where there is none that could."""
    if not family.running:
        return False
    family.send(number)
    return True


class Remote:
    """What a machine's process stands for (`Elsewhere` in lib/family.py)."""

    def __init__(self, family: Family, root: int, clock: Clock) -> None:
        self._family = family
        self._root = root
        self._clock = clock

    def stop(self, order: StopOrder) -> RemoteStop:
        """A stop of it."""
        return RemoteStop(self._family, self._root, self._clock, order)

    def send(self, number: int) -> None:
        """Have the process pass on a signal: our own child, not yet waited for, so the pid is its own."""
        os.kill(self._family.main, _INSTEAD.get(number, number))


@dataclass(slots=True)
class RemoteStop:
    """A stop of what a machine runs elsewhere. It has what a `Stop` has (lib/stop.py)."""

    family: Family
    root: int
    clock: Clock
    order: StopOrder
    requested_at: str = ""
    kill_at: float = 0.0
    #: what was done with what the machine runs, in words
    done: list[str] = field(default_factory=list)
    #: of what could not be removed
    survivors: list[Process] = field(default_factory=list)
    _killing_since: float | None = None

    @property
    def killing(self) -> bool:
        """The grace is over."""
        return self._killing_since is not None

    def begin(self) -> None:
        """Send the polite signal."""
        self.requested_at = stamp(self.clock.time())
        self.kill_at = self.clock.monotonic() + self.order.grace
        if self._polite():
            self.done.append(f"{signals.name_of(self.order.signal)} passed on")

    def again(self) -> None:
        """Another process has taken up what the machine runs."""
        if self.killing:
            send(self.family, say.KILL)
        else:
            self._polite()

    def _polite(self) -> bool:
        return send(self.family, signal.SIGCONT) and send(self.family, self.order.signal)

    def hasten(self, order: StopOrder) -> None:
        """A second request while the first is under way can only shorten the grace."""
        if not self.killing:
            self.kill_at = min(self.kill_at, self.clock.monotonic() + order.grace)

    def press(self) -> bool:
        """Have it killed, if the grace is over; end a process that does not do that. False once it is plain that
        nothing helps."""
        now = self.clock.monotonic()
        if now < self.kill_at:
            return True
        if self._killing_since is None:
            self._killing_since, self.kill_at = now, now + OBEY
            if send(self.family, say.KILL):
                self.done.append("killed when the grace was over")
            return True
        tree.kill(self.root, spared=self.family.spared)
        self.kill_at = now + KILL_INTERVAL
        return now - self._killing_since < OBEY + GIVE_UP

    def give_time(self, seconds: float) -> None:
        """What was to be killed is being removed by force, which may take so long."""
        self.kill_at = self.clock.monotonic() + seconds

    def receipt(self) -> Receipt:
        """What was done, and who is left."""
        left = [*tree.below(self.root, spared=self.family.spared), *self.survivors]
        return Receipt(
            reason=self.order.reason,
            signal=signals.name_of(self.order.signal),
            grace_seconds=self.order.grace,
            requested_at=self.requested_at,
            finished_at=stamp(self.clock.time()),
            container="; ".join(self.done) or None,
            survivors=[each.note for each in left if each.alive][:LISTED],
        )


class Following:
    """Sees to it that what a machine runs is followed to its end, and gone after that.

    ``start``: starts a process that takes it up. ``remove``: one that removes it. Both raise StartFailed, OSError.
    ``kill``: ends its processes without an engine's help; returns who is left.
    """

    def __init__(
        self,
        family: Family,
        hearing: Hearing,
        clock: Clock,
        *,
        start: Callable[[], int],
        remove: Callable[[int], int],
        kill: Callable[[], list[Process]],
    ) -> None:
        self._family = family
        self._hearing = hearing
        self._clock = clock
        self._start = start
        self._remove = remove
        self._kill = kill
        self._notes = -1  # what the removing process says
        self._deaths = 0
        self._begun_at = clock.monotonic()
        #: what it runs could not be removed
        self.left = False

    def follow(self) -> bool:
        """A process of the machine is gone, with all that came of it: whether another has been started."""
        if self._notes >= 0:
            self._removed()
            return False
        ended = self._family.ended
        if self._hearing.ending is None:
            # a stop before the start: it may have put away what there was; and nobody shall start anything now
            unstarted = self._stop is not None and not self._hearing.running
            if not unstarted and not self._forced and self._take_up():
                return True
        elif ended is not None and os.WIFEXITED(ended):
            return False  # it has put everything away, or said what is left
        return self._begin_removal()

    @property
    def _stop(self) -> RemoteStop | None:
        stop = self._family.stop
        return stop if isinstance(stop, RemoteStop) else None

    @property
    def _forced(self) -> bool:
        return self._stop is not None and self._stop.killing and self._family.ended is not None

    def _take_up(self) -> bool:
        now = self._clock.monotonic()
        self._deaths = 1 if now - self._begun_at > SETTLED else self._deaths + 1
        while self._deaths <= TAKE_UPS:
            self._begun_at = now
            try:
                self._family.follow(self._start())
            except (StartFailed, OSError):
                self._deaths += 1
                continue
            if self._stop is not None:
                self._stop.again()
            else:
                self._family.stop = None  # what the dead one had left behind has been cleared
            return True
        self._hearing.ending = Ending(outcome=Outcome.LOST, reason=_given_up(self._deaths, self._family.ended))
        return False

    def _begin_removal(self) -> bool:
        self._family.over = True  # nobody is there to pass on a signal
        self._notes = provision.open_notes()
        try:
            self._family.follow(self._remove(self._notes))
        except (StartFailed, OSError):
            self._removed()
            return False
        if self._stop is not None:
            self._stop.give_time(REMOVAL_SECONDS)
        return True

    def _removed(self) -> None:
        """The removing process has ended, or could not be started."""
        error, said = provision.error_of(self._notes, self._family.ended), os.fstat(self._notes).st_size > 0
        os.close(self._notes)
        self._notes = -1
        survivors, done = list[Process](), "removed by force" if said else ""
        if error is not None:
            survivors, self.left = self._kill(), True
            why = error.removeprefix("files: ")[:LONGEST_TEXT]
            if self._family.ended is not None and os.WTERMSIG(self._family.ended) == signal.SIGALRM:
                why = "the engine did not answer in time"
            done = f"it could not be removed ({why}); its processes were killed"
        if self._stop is not None:
            self._stop.survivors = survivors
            self._stop.done += [done] if done else []


def _given_up(deaths: int, status: int | None) -> str:
    code = None if status is None else os.waitstatus_to_exitcode(status)
    how = "" if code is None else f", the last with {f'exit code {code}' if code >= 0 else signals.name_of(-code)}"
    return f"{deaths} processes that followed it ended without saying how it ended{how}"
