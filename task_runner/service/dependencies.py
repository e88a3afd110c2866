"""Which task waits for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from task_runner.errors import FieldError, InvalidRequest
from task_runner.model.spec import Spec
from task_runner.service.task import Task

#: of a cycle so many tasks are told
_TOLD = 10


class Dependants:
    """For every task that others name in `after`: those that are not over."""

    def __init__(self) -> None:
        self._by_task: dict[str, dict[str, Task]] = {}

    def add(self, task: Task) -> None:
        if not task.mentions("after"):
            return  # most name none, and reading a spec takes longer than this look
        for each in task.spec.after:
            self._by_task.setdefault(each.task, {})[task.id] = task

    def discard(self, task: Task) -> None:
        if not task.mentions("after"):
            return
        for each in task.spec.after:
            waiting = self._by_task.get(each.task, {})
            waiting.pop(task.id, None)
            if not waiting:
                self._by_task.pop(each.task, None)

    def __len__(self) -> int:
        """How many tasks others name."""
        return len(self._by_task)

    def waiting_for(self, task_id: str) -> list[Task]:
        """The tasks that have not started and wait for this one."""
        return [task for task in self._by_task.get(task_id, {}).values() if task.waiting]


def by_name(specs: Sequence[Spec], ids: Sequence[str]) -> list[Spec]:
    """The specs of one batch with the names of tasks in `after` replaced by their ids.

    A word that is no name in the batch stays, as the id of an earlier task. Raises InvalidRequest for a name that
    two tasks have, and for tasks that wait for each other.
    """
    if not any(spec.after for spec in specs):
        return list(specs)
    named, twice = dict[str, str](), set[str]()
    for spec, task_id in zip(specs, ids, strict=True):
        if spec.name is not None and named.setdefault(spec.name, task_id) != task_id:
            twice.add(spec.name)
    resolved = []
    for index, spec in enumerate(specs):
        for place, each in enumerate(spec.after):
            if each.task in twice:
                raise InvalidRequest.at(f"tasks.{index}.after.{place}.task", f"two tasks here are named {each.task!r}")
        after = [replace(each, task=named.get(each.task, each.task)) for each in spec.after]
        resolved.append(replace(spec, after=after) if after else spec)
    if cycle := find_cycle(_edges(resolved, ids)):
        places = [f"tasks.{index}" for index in cycle]
        told = places if len(places) <= _TOLD else [*places[: _TOLD - 1], f"… ({len(places) - _TOLD + 1} more)"]
        message = f"it would wait for itself: {' waits for '.join([*told, places[0]])}"
        raise InvalidRequest(fields=[FieldError(f"{places[0]}.after", message)])
    return resolved


def _edges(specs: Sequence[Spec], ids: Sequence[str]) -> list[list[int]]:
    """For each task the tasks of the same batch that come before it: by `after`, and in the line of its entity."""
    places = {task_id: index for index, task_id in enumerate(ids)}
    last_of: dict[str, int] = {}
    edges = []
    for index, spec in enumerate(specs):
        before = [places[each.task] for each in spec.after if each.task in places]
        if spec.entity is not None:
            if spec.entity in last_of:
                before.append(last_of[spec.entity])
            last_of[spec.entity] = index
        edges.append(before)
    return edges


def find_cycle(edges: Sequence[Sequence[int]]) -> list[int] | None:
    """A cycle in a graph of 0 … n-1, given as the targets of each node; None if there is none. No recursion: a chain
    may be as long as a batch."""
    done: set[int] = set()
    for start in range(len(edges)):
        path: list[int] = []
        on_path: set[int] = set()
        todo = [(start, False)]
        while todo:
            node, leave = todo.pop()
            if leave:
                on_path.discard(path.pop())
                done.add(node)
            elif node in on_path:
                return path[path.index(node) :]
            elif node not in done:
                path.append(node)
                on_path.add(node)
                todo.append((node, True))
                todo += [(target, False) for target in edges[node]]
    return None
