"""What a sidecar has started, where there is no cgroup to hold it.

In another pid namespace who loses its parent becomes a child of that namespace's first process, and not of the runner.
The mark in its environment is what is left to find it by; one that has cleared that as well is not found.
"""

from __future__ import annotations

from task_runner.lib import process
from task_runner.lib.process import Process


class Strays:
    """All that carries the mark of a task, with what a Group (lib/group.py) has for who stops and waits."""

    __slots__ = ("_task_id",)

    def __init__(self, task_id: str) -> None:
        self._task_id = task_id

    def members(self) -> list[Process]:
        return [each for each in process.marked(self._task_id) if each.alive]

    def pids(self) -> list[int]:
        return [each.pid for each in self.members()]

    def populated(self) -> bool:
        """Not known without a look at all processes."""
        return True

    def kill(self) -> bool:
        return False

    def freeze(self) -> bool:
        return False

    def thaw(self) -> bool:
        return False
