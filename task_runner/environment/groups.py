"""The control groups of the tasks of one state directory, as the daemon sees them: found, taken up, cleared away."""

from __future__ import annotations

import json
import logging
import os

from task_runner.errors import Damaged
from task_runner.lib import cgroups, group, lock, statusfile, stop
from task_runner.lib.cgroups import Places
from task_runner.lib.group import Group
from task_runner.lib.grouplimits import LIMITS
from task_runner.lib.statedir import StateDirectory
from task_runner.lib.taskdir import AttemptDirectory, read_control
from task_runner.model.codec import from_json
from task_runner.model.spec import Spec
from task_runner.model.walls import Means

log = logging.getLogger(__name__)


class Groups:
    """Where they are, and which there are. Everything here blocks for a moment."""

    def __init__(self, state: StateDirectory, *, wanted: bool) -> None:
        self._state = state
        self._wanted = wanted
        #: what runners are told; none: tasks get no groups
        self.places: Places | None = None
        #: how groups enforce limits
        self.means = [Means(limit=each, by=None, note="the setting `cgroups` is off") for each in LIMITS]

    def open(self) -> None:
        """Find out what works here. Before the launcher starts: this process may have to move."""
        if not self._wanted:
            return
        self.places = cgroups.find(cgroups.name_of(self._state.path))
        self.means = group.means(self.places)
        for task_id, attempt in group.attempts(self.places):
            self._examine(self.places, self._state.tasks.attempt(task_id, attempt), task_id)

    def close(self) -> None:
        """Tasks that run keep theirs."""
        if self.places is not None:
            cgroups.leave(self.places)

    def of(self, task_id: str, attempt: int) -> Group | None:
        """That of an attempt; None where there is none."""
        return None if self.places is None else group.of_attempt(self.places, task_id, attempt)

    def left_by(self, task_id: str) -> list[Group]:
        """Those that attempts of a task have left."""
        return [] if self.places is None else group.left_by(self.places, task_id)

    def _examine(self, places: Places, directory: AttemptDirectory, task_id: str) -> None:
        """Take up the group of an attempt that an earlier daemon had started, or remove it. Where the end of the
        attempt is not known there will be a `clear`, which tells what it has killed."""
        found = group.of_attempt(places, task_id, directory.attempt)
        if found is None:
            return
        if lock.probe(directory).held:
            if places.caveat is not None:
                _limit_again(found, directory)
        elif not found.populated() or _is_over(directory):
            stop.kill_group(found)
            found.remove()


def _limit_again(running: Group, directory: AttemptDirectory) -> None:
    """Its limits are gone where controllers had to be given back so that this daemon could start."""
    try:
        wanted = from_json(Spec, json.loads(read_control(directory.spec))).limits
    except (OSError, ValueError, RecursionError, Damaged) as error:
        log.warning("%s: %s; limits of what runs are not set anew", directory.spec, error)
        return
    if wanted is not None:
        running.limit(wanted)


def _is_over(directory: AttemptDirectory) -> bool:
    """Whether nobody is going to ask what became of an attempt."""
    try:
        status = statusfile.read(directory)
    except (Damaged, OSError):
        return False
    return not os.path.isdir(directory.path) if status is None else status.outcome is not None
