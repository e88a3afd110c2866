"""A task in the foreground: what would stop a command stops the task, and its output is ours.

Handlers only take note. A thread passes the stops on, so that nothing interrupts the copying of output, and
no byte of it is lost or doubled.
"""

from __future__ import annotations

import signal
import threading
from contextlib import closing
from queue import SimpleQueue
from types import FrameType
from typing import Any, Self

from task_runner.cli.edge import PATIENCE, Session, drop_stdout
from task_runner.cli.output import say
from task_runner.cli.tasks import write
from task_runner.client import Client, Task
from task_runner.errors import TaskRunnerError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_NO_READER = "nobody reads the output any more"


class Abandoned(TaskRunnerError):
    """Told to stop waiting."""


class Foreground:
    """From `submit` to `finish`. The first SIGINT or SIGTERM stops the task, the second without grace.

    A third, for when the daemon cannot be told, raises Abandoned; so does the second while it is not yet
    known whether the task was accepted.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._task_id: str | None = None
        self._asked = 0
        #: the words for each stop that is wanted
        self._stops: SimpleQueue[str] = SimpleQueue()
        self._earlier: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as for what a script puts into the background
                self._earlier[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_exc: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def run(self, body: dict[str, Any], key: str, *, show: bool) -> Task:
        """Submit a task, copy its output, and return it when it is over."""
        with self._session.client(patience=PATIENCE) as client:
            self._task_id = task_id = client.submit(body, key)["taskId"]
            threading.Thread(target=self._pass_on_stops, name="stops", daemon=True).start()
            try:
                if show:
                    self._copy(client, task_id)
                return client.wait(task_id)
            except TaskRunnerError:
                say(f"task {task_id} may still run: `task-runner logs -f {task_id}` shows it")
                raise

    def _copy(self, client: Client, task_id: str) -> None:
        try:
            with closing(client.iter_output(task_id, follow=True)) as output:
                for chunk in output:
                    write(chunk)
        except BrokenPipeError:
            drop_stdout()
            self._stops.put(_NO_READER)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self._asked += 1
        if self._asked > (1 if self._task_id is None else 2):
            known = "it is not known whether the task was accepted" if self._task_id is None else None
            raise Abandoned(known)
        self._stops.put(signal.Signals(number).name)

    def _pass_on_stops(self) -> None:
        """A thread of its own, with a connection of its own."""
        assert self._task_id is not None
        grace: float | None = None
        with self._session.client(patience=PATIENCE, met=True) as client:
            while True:
                reason = self._stops.get()
                again = " (again: no grace)" if grace is None and reason != _NO_READER else ""
                try:
                    say(f"{reason}: stopping task {self._task_id}{again}")
                    client.stop(self._task_id, grace=grace, wait=0)
                except TaskRunnerError as error:
                    say(f"cannot stop task {self._task_id}: {error}")
                grace = 0.0
