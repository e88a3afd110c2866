"""Having dead runners followed, where what they had in hand lives on (lib/succession.py).

Rule 1: nothing here starts anything twice: of all successors that are launched for an attempt one gets its lock, and
        starts nothing that was started (lib/lock.py). So a launch that may have got lost is simply repeated.
Rule 2: a launch that comes to nothing says nothing of the task: a full disk, a secret that is gone. It is repeated as
        long as it takes. Only successors that die, one after the other, are not followed for ever.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from task_runner.environment.base import Environment, Launch
from task_runner.errors import TaskRunnerError
from task_runner.lib import backoff, failpoint
from task_runner.lib.clock import Clock
from task_runner.model.grant import Grant
from task_runner.model.status import Identity
from task_runner.service.task import Task

log = logging.getLogger(__name__)

#: seconds before a launch that nothing came of is repeated, how that grows
AGAIN, FACTOR, LONGEST = 5.0, 2.0, 60.0
#: runners of an attempt that may die, each within so many seconds after the one before
DEATHS, SETTLED = 5, 300.0


@dataclass(slots=True)
class _Orphan:
    runner: Identity | None
    died_at: float
    deaths: int = 1
    launches: int = 0
    not_before: float = 0.0


class Succession:
    """``grant``: what a task is given beside its spec; may raise an error of ours."""

    def __init__(self, environment: Environment, clock: Clock, grant: Callable[[Task], Grant | None]) -> None:
        self._environment = environment
        self._clock = clock
        self._grant = grant
        self._orphans: dict[str, _Orphan] = {}

    def follow(self, task: Task, runner: Identity | None) -> bool:
        """The runner of a task was found dead, and its action goes on: have it followed. False where no successor is to
        come any more, since too many have died."""
        now = self._clock.monotonic()
        orphan = self._orphans.get(task.id)
        if orphan is None:
            orphan = self._orphans[task.id] = _Orphan(runner, now)
        elif orphan.runner != runner:
            deaths = orphan.deaths + 1 if now - orphan.died_at < SETTLED else 1
            orphan = self._orphans[task.id] = _Orphan(runner, now, deaths)
        if orphan.deaths > DEATHS:
            return False
        if now >= orphan.not_before:
            orphan.launches += 1
            orphan.not_before = now + backoff.growing(AGAIN, FACTOR, LONGEST, orphan.launches)
            self._launch(task)
        return True

    def _launch(self, task: Task) -> None:
        task.delivered = False  # a stop that the dead one was told of is the next one's to be told of
        try:
            grant = self._grant(task)
        except TaskRunnerError as error:
            log.warning("task %s: its runner is dead, and cannot be followed yet: %s", task.id, error)
            return
        log.warning(
            "task %s: its runner is dead; another takes up its container",
            task.id,
            extra={"action": "take_up", "task": task.id},
        )
        attempt = task.record.attempt
        failpoint.reach("succession.launch")
        self._environment.launch(
            Launch(task_id=task.id, attempt=attempt, spec=task.spec_json, grant=grant, take_up=True)
        )

    def forget(self, task_id: str) -> None:
        """It is over."""
        self._orphans.pop(task_id, None)
