"""How a task is stopped: polite signal to the whole tree, grace, SIGKILL until nobody is left, receipt.

The polite signal goes to every process, not to the first alone: a shell that waits for its command does not
run its trap before the command ends. Who forks after the scan gets it not, and is killed with the rest.

Where the task has a cgroup (lib/group.py) that is killed as a whole, and then whoever has left it.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from task_runner.errors import Damaged
from task_runner.lib import signals, tree
from task_runner.lib.clock import Clock, stamp
from task_runner.lib.group import Group
from task_runner.lib.process import Process, marked
from task_runner.lib.taskdir import AttemptDirectory, read_control
from task_runner.model.spec import Spec
from task_runner.model.status import ProcessNote, Receipt

if TYPE_CHECKING:
    from task_runner.lib.strays import Strays

#: how many processes a receipt lists by name
LISTED = 20
#: seconds between two rounds of SIGKILL
KILL_INTERVAL = 0.02
#: seconds that a wrapper has to put away what was made for a command that has ended
WRAP_UP = 5.0
#: seconds of SIGKILL after which whoever lives cannot be killed
GIVE_UP = 20.0
#: scans in a row that must find nobody before the remains of a dead runner are taken for cleared
QUIET_SCANS = 5


@dataclass(frozen=True, slots=True)
class StopOrder:
    """What was asked for."""

    #: "stop", "timeout", "stalled", "action timeout", "cleanup timeout" or "leftovers"
    reason: str
    signal: int
    grace: float


def read_order(directory: AttemptDirectory, spec: Spec) -> StopOrder:
    """The order of a stop request: the spec's words, or what stop.json says instead."""
    number, grace = signals.parse(spec.stop_signal), spec.grace_seconds
    try:
        asked = json.loads(read_control(directory.stop))
        number = signals.parse(asked.get("signal") or spec.stop_signal)
        wish = asked.get("graceSeconds")
        grace = grace if wish is None else max(0.0, float(wish))
    except (OSError, ValueError, TypeError, AttributeError, RecursionError, Damaged):
        pass  # none is there, or it makes no sense: the spec holds
    return StopOrder("stop", number, grace)


@dataclass(slots=True)
class Stop:
    """A stop under way."""

    root: int
    clock: Clock
    order: StopOrder
    #: pids of children of ``root`` that are no part of the task
    spared: AbstractSet[int] = frozenset()
    #: the task's cgroup; none: it has none
    group: Group | Strays | None = None
    #: who ends by itself when all others have (machines/wrapper.py); 0: there is none
    wrapper: int = 0
    requested_at: str = ""
    kill_at: float = 0.0
    _killing_since: float | None = None
    #: when somebody beside the wrapper was last killed
    _others_at: float = 0.0
    _signalled: dict[tuple[int, int], ProcessNote] = field(default_factory=dict)
    _killed: dict[tuple[int, int], ProcessNote] = field(default_factory=dict)

    def begin(self) -> None:
        """Send the polite signal."""
        self.requested_at = stamp(self.clock.time())
        self.kill_at = self.clock.monotonic() + self.order.grace
        reached = tree.signal_all(self._everyone(), self.order.signal)
        _note(self._signalled, reached)
        # whoever is stopped (paused, or by itself) could not act on the signal, unless it was SIGKILL. Not by a scan
        # alone: one that runs while the first of them end can miss whose parent is just ending
        tree.signal_all(reached, signal.SIGCONT)
        tree.thaw(self.root, spared=self.spared)
        if self.group is not None:
            self.group.thaw()

    def _everyone(self) -> list[Process]:
        """All below the root, and who is in the group besides."""
        found = tree.below(self.root, spared=self.spared)
        if self.group is not None:
            known = {each.pid for each in found}
            found += [each for each in self.group.members() if each.pid not in known]
        return found

    def hasten(self, order: StopOrder) -> None:
        """A second request while the first is under way can only shorten the grace."""
        self.kill_at = min(self.kill_at, self.clock.monotonic() + order.grace)

    def press(self) -> bool:
        """Kill, if the grace is over; False once it is plain that killing does not help."""
        now = self.clock.monotonic()
        if now < self.kill_at:
            return True
        if self._killing_since is None:
            self._killing_since = self._others_at = now
        _note(self._killed, self._kill(now))
        self.kill_at = now + KILL_INTERVAL
        return now - self._killing_since < GIVE_UP

    def _kill(self, now: float) -> list[Process]:
        """SIGKILL all that can be found; returns those it reached. A wrapper is let see how its command ends."""
        spared = self.spared | {self.wrapper} if now - self._others_at < WRAP_UP else self.spared
        killed = kill_group(self.group) if self.group is not None else []
        killed += tree.kill(self.root, spared=spared | {each.pid for each in killed} if killed else spared)
        if killed:
            self._others_at = now
        return killed

    def receipt(self) -> Receipt:
        """What was done, and who is left."""
        survivors = [each.note for each in self._everyone() if each.alive]
        return Receipt(
            reason=self.order.reason,
            signal=signals.name_of(self.order.signal),
            grace_seconds=self.order.grace,
            requested_at=self.requested_at,
            finished_at=stamp(self.clock.time()),
            signalled=list(self._signalled.values())[:LISTED],
            signalled_count=len(self._signalled),
            killed=list(self._killed.values())[:LISTED],
            killed_count=len(self._killed),
            survivors=survivors[:LISTED],
        )


def _note(notes: dict[tuple[int, int], ProcessNote], processes: Iterable[Process]) -> None:
    notes.update({(each.pid, each.start_time): each.note for each in processes})


def kill_group(group: Group | Strays) -> list[Process]:
    """SIGKILL everybody in a cgroup; returns those that were seen in it."""
    seen = group.members()
    return seen if group.kill() else tree.signal_all(seen, signal.SIGKILL)


def clear_remains(task_id: str, clock: Clock, groups: Sequence[Group] = ()) -> Receipt | None:
    """Kill what a task whose runner is dead has left; None if nothing was there. ``groups``: those its attempts left.

    One scan that finds nobody is no proof: who forks and exits can slip through it. Several in a row are taken for one.
    Who has cleared its environment, and has no parent that has not, is found in a group alone.
    """
    requested_at, began = stamp(clock.time()), clock.monotonic()
    killed: dict[tuple[int, int], ProcessNote] = {}
    quiet = 0
    while quiet < QUIET_SCANS and clock.monotonic() - began < GIVE_UP:
        reached = [each for group in groups for each in kill_group(group)] + tree.kill_marked(task_id)
        _note(killed, reached)
        quiet = 0 if reached else quiet + 1
        # ever longer: a process that stays in the middle of an exec (a file system that does not answer) has no
        # environment to be found by
        time.sleep(KILL_INTERVAL * 2**quiet)
    survivors = marked(task_id) if quiet < QUIET_SCANS else []
    survivors += [each for group in groups for each in group.members()]
    if not killed and not survivors:
        return None
    return Receipt(
        reason="runner died",
        signal="SIGKILL",
        requested_at=requested_at,
        finished_at=stamp(clock.time()),
        killed=list(killed.values())[:LISTED],
        killed_count=len(killed),
        survivors=[each.note for each in survivors][:LISTED],
    )
