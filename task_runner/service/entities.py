"""Entities and the lines in front of them. Pure.

Tasks of one entity run one at a time. Of those that wait, the one accepted first is at the *front* while the entity
is free; the others stand behind it, whatever their priority and whatever it waits for itself.
"""

from __future__ import annotations

import heapq


class Entities:
    """Who has each entity, and who stands in line for it. Tasks are named by their ids."""

    def __init__(self) -> None:
        #: of each entity the launched tasks that are not over: one, unless an earlier daemon did otherwise
        self._busy: dict[str, dict[str, None]] = {}
        self._waiting: dict[str, dict[str, None]] = {}
        self._heaps: dict[str, list[tuple[int, str]]] = {}  # with some that have left
        self._front: dict[str, str] = {}

    def join(self, entity: str, seq: int, task_id: str) -> None:
        """Stand in line. Once in the line, another call changes nothing."""
        waiting = self._waiting.setdefault(entity, {})
        if task_id not in waiting:
            waiting[task_id] = None
            heapq.heappush(self._heaps.setdefault(entity, []), (seq, task_id))

    def leave(self, entity: str, task_id: str) -> None:
        """Stand in line no more."""
        waiting = self._waiting.get(entity, {})
        waiting.pop(task_id, None)
        if not waiting:
            self._waiting.pop(entity, None)
            self._heaps.pop(entity, None)

    def occupy(self, entity: str, task_id: str) -> None:
        self._busy.setdefault(entity, {})[task_id] = None

    def vacate(self, entity: str, task_id: str) -> None:
        busy = self._busy.get(entity, {})
        busy.pop(task_id, None)
        if not busy:
            self._busy.pop(entity, None)

    def changed(self, entity: str) -> list[str]:
        """The tasks that have come to the front or been pushed from it since this was last asked."""
        before, now = self._front.pop(entity, None), self._first(entity)
        if now is not None:
            self._front[entity] = now
        return [] if now == before else [each for each in (before, now) if each is not None]

    def _first(self, entity: str) -> str | None:
        heap = self._heaps.get(entity)
        if heap is None or entity in self._busy:
            return None
        waiting = self._waiting[entity]
        while heap[0][1] not in waiting:
            heapq.heappop(heap)
        return heap[0][1]

    def at_front(self, entity: str, task_id: str) -> bool:
        return self._front.get(entity) == task_id

    def ahead(self, entity: str) -> str:
        """Why a task stands behind in this line, in words."""
        if entity in self._busy:
            return f"entity {entity} is busy with task {next(iter(self._busy[entity]))}"
        return f"task {self._front[entity]} of entity {entity} comes first"
