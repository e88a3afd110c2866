"""Several tasks, until they are over: one stream of events tells of all of them."""

from __future__ import annotations

import queue
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from task_runner.cli import exitcode
from task_runner.cli.edge import report
from task_runner.cli.output import say
from task_runner.client.errors import NotFound
from task_runner.client.records import FINAL_STATES, is_over
from task_runner.errors import TaskRunnerError

if TYPE_CHECKING:
    from task_runner.cli.bars import Bars
    from task_runner.client import Client, Event, Task

#: seconds between two drawings of what time alone changes
_TICK = 1.0
_PAGE = 1000
#: so many tasks of one batch are asked for together
_MANY = 20


class Voice:
    """Says a word to the person where it does not disturb the picture."""

    def __init__(self) -> None:
        self.say: Callable[[str], None] = say

    def tell_outage(self, error: TaskRunnerError) -> None:
        self.say(f"no contact with the daemon, trying again; tasks run on meanwhile ({error})")


class Awaiting:
    """``first``: until one of them is over. ``end``: not beyond this moment (time.monotonic)."""

    def __init__(
        self, client: Client, tasks: Sequence[Task], voice: Voice, *, first: bool, end: float | None
    ) -> None:
        self._client, self._voice, self._first, self._end = client, voice, first, end
        self._tasks = {task["taskId"]: task for task in tasks}
        self._order = list(self._tasks)
        self._open = {task["taskId"] for task in tasks if not is_over(task)}
        #: in the order in which they ended, as far as that was seen
        self._over = [task["taskId"] for task in tasks if is_over(task)]
        self._heard: queue.SimpleQueue[Event | TaskRunnerError | None] = queue.SimpleQueue()
        #: the exit code for those that were removed meanwhile
        self.code = exitcode.OK

    def run(self) -> Iterator[Task]:
        """Each task in the order given as soon as it is over; those that are not, as they are at the end. With
        ``first`` the one that is over alone, where one is."""
        if len(self._tasks) == 1:
            yield from self._one()
            return
        told = 0
        with _bars(len(self._tasks), self._voice) as bars:
            for _ in self._changes(bars):
                while bars is None and not self._first and told < len(self._order) and self._is_settled(told):
                    yield from self._known(told)
                    told += 1
        if self._first and self._over:
            yield self._tasks[self._over[0]]
            return
        for i in range(told, len(self._tasks)):
            yield from self._known(i)

    def _one(self) -> Iterator[Task]:
        (task,) = self._tasks.values()
        yield self._client.wait(task, None if self._end is None else max(0.0, self._end - time.monotonic()))

    def _is_settled(self, place: int) -> bool:
        return self._order[place] not in self._open

    def _known(self, place: int) -> Iterator[Task]:
        task = self._tasks[self._order[place]]
        if is_over(task) or task["taskId"] in self._open:  # else it has been removed
            yield task

    @property
    def _done(self) -> bool:
        return not self._open or (self._first and bool(self._over))

    def _changes(self, bars: Bars | None) -> Iterator[None]:
        """After each change, until there will be none."""
        yield
        if self._done:
            return
        from task_runner.cli.ear import Ear

        with Ear(self._client, self._heard.put, self._heard.put):
            while not self._done:
                if bars:
                    bars.show(self._tasks.values())
                if self._late:
                    self._look_at_all()
                    return
                self._listen()
                yield
            if bars:
                bars.show(self._tasks.values())

    @property
    def _late(self) -> bool:
        return self._end is not None and time.monotonic() >= self._end

    def _listen(self) -> None:
        left = _TICK if self._end is None else max(0.0, min(_TICK, self._end - time.monotonic()))
        try:
            self._take(self._heard.get(timeout=left))
            while not self._heard.empty():
                self._take(self._heard.get())
        except queue.Empty:
            pass

    def _take(self, found: Event | TaskRunnerError | None) -> None:
        if isinstance(found, TaskRunnerError):
            raise found
        if found is None:
            self._look_at_all()  # the stream is open now, and what was before has not been heard
        elif found["taskId"] in self._open:
            task = self._tasks[found["taskId"]]
            task["progress"], task["stalled"] = found["progress"], found["stalled"]
            if found["state"] in FINAL_STATES:
                self._look_at(found["taskId"])

    def _look_at_all(self) -> None:
        batches = Counter(self._tasks[each]["batch"] for each in self._open)
        seen = set[str]()
        for batch, count in batches.items():
            if batch is not None and count >= _MANY:
                for task in self._client.list(batch=batch, order="asc", limit=_PAGE):
                    if task["taskId"] in self._open:
                        self._note(task)
                        seen.add(task["taskId"])
        for task_id in list(self._open - seen):
            self._look_at(task_id)

    def _look_at(self, task_id: str) -> None:
        try:
            self._note(self._client.get(task_id))
        except NotFound as error:
            self._open.discard(task_id)
            report(error, about=task_id)
            self.code = self.code or exitcode.of_error(error)

    def _note(self, task: Task) -> None:
        self._tasks[task["taskId"]] = task
        if is_over(task):
            self._open.discard(task["taskId"])
            self._over.append(task["taskId"])


@contextmanager
def _bars(count: int, voice: Voice) -> Iterator[Bars | None]:
    """Where standard error is a terminal. They are gone in the end: what became of the tasks is said then."""
    if count < 2 or not sys.stderr.isatty():
        yield None
        return
    from task_runner.cli.bars import Bars

    with Bars() as bars:
        voice.say = bars.say
        try:
            yield bars
        finally:
            voice.say = say
