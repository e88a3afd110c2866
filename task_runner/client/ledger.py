"""Which future waits for which task: the executor's books. No I/O.

Rule 1: a future is taken out once, by whoever learns first that its task is over: the answer to the submit, an event, a
look at the task. That one resolves it.
Rule 2: an event can overtake the answer to the submit that makes its task known here. So while a submit is under way,
final events of unknown tasks are kept: those that came since the oldest such submit began.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from task_runner.client.records import FINAL_STATES

F = TypeVar("F")
#: a task or an event of it: what says how it is
Known = Mapping[str, Any]


class Ledger(Generic[F]):
    """For threads: all methods are atomic."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: dict[str, F] = {}
        self._news = 0
        self._under_way: dict[object, int] = {}
        self._early: deque[tuple[int, Known]] = deque()

    def begin(self) -> object:
        """A submit is about to be sent; returns what `entered` wants when it is answered."""
        with self._lock:
            submit = object()
            self._under_way[submit] = self._news
            return submit

    def entered(self, submit: object, futures: Mapping[str, F]) -> Sequence[tuple[F, Known]]:
        """These wait for these tasks now; returns those whose task is over already. None at all: it has failed."""
        with self._lock:
            self._waiting.update(futures)
            del self._under_way[submit]
            over = [(self._waiting.pop(task_id), known) for _, known in self._early
                    if (task_id := known["taskId"]) in futures and task_id in self._waiting]
            oldest = min(self._under_way.values(), default=None)
            while self._early and (oldest is None or self._early[0][0] <= oldest):
                self._early.popleft()
            return over

    def heard(self, known: Known) -> tuple[F | None, bool]:
        """Whose task that is, if anybody's, and whether it is over; then he waits no more."""
        with self._lock:
            self._news += 1
            task_id, over = known["taskId"], known["state"] in FINAL_STATES
            if task_id not in self._waiting:
                if over and self._under_way:
                    self._early.append((self._news, known))
                return None, over
            return (self._waiting.pop(task_id) if over else self._waiting[task_id]), over

    def take(self, task_id: str) -> F | None:
        """Who waits for a task, and waits no more."""
        with self._lock:
            return self._waiting.pop(task_id, None)

    def waiting(self) -> dict[str, F]:
        """All who wait, as of now."""
        with self._lock:
            return dict(self._waiting)

    def __len__(self) -> int:
        with self._lock:
            return len(self._waiting) + len(self._under_way)
