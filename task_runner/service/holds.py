"""What launched tasks have, and what is left. Pure."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from task_runner.service.capacity import Capacity
from task_runner.service.schedule import GPUS, SLOT, Limits, Needs, Room


@dataclass(frozen=True, kw_only=True, slots=True)
class _Hold:
    needs: Needs
    gpus: tuple[int, ...]


class Holds:
    """By the ids of the tasks, what each one has from its launch to its end."""

    def __init__(self, capacity: Capacity) -> None:
        self.total = capacity.totals()
        self._gpus = capacity.gpus
        self._holds: dict[str, _Hold] = {}
        self._used: dict[str, int] = {}
        self._used_gpus: Counter[int] = Counter()  # an earlier daemon may have given one to two
        #: have graphics processors, and it is not known which
        self._blind: set[str] = set()

    def __len__(self) -> int:
        return len(self._holds)

    def free_gpus(self) -> tuple[int, ...]:
        """Indices of the graphics processors that no task has. None of them, while it is not known which they are."""
        return () if self._blind else tuple(index for index in self._gpus if not self._used_gpus[index])

    def take(self, task_id: str, needs: Needs, gpus: tuple[int, ...]) -> None:
        """A task has been launched with these."""
        self.release(task_id)
        self._holds[task_id] = _Hold(needs=needs, gpus=gpus)
        for kind, amount in needs:
            self._used[kind] = self._used.get(kind, 0) + amount
            if kind == GPUS and not gpus:
                self._blind.add(task_id)
        self._used_gpus.update(gpus)

    def release(self, task_id: str) -> None:
        """It has ended, or was not launched after all. Nothing happens where it has nothing."""
        hold = self._holds.pop(task_id, None)
        if hold is None:
            return
        self._blind.discard(task_id)
        for kind, amount in hold.needs:
            self._used[kind] -= amount
        self._used_gpus.subtract(hold.gpus)

    def room(self, limits: Limits, starting: int) -> Room:
        """What there is and what is free, with ``starting`` launches on their way."""
        slots = math.inf if limits.max_running is None else limits.max_running
        total = {SLOT: slots, **self.total}
        free = {kind: amount - self._used.get(kind, 0) for kind, amount in total.items()}
        free[GPUS] = len(self.free_gpus())
        launches = limits.max_starting - starting
        return Room(total=total, free=free, launches=launches, draining=limits.draining, closed=limits.closed)
