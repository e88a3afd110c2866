"""A task in the foreground: what would stop a command stops the task, and its output is ours.

Signals are heard by a thread, through Python's wake-up descriptor: nothing interrupts the copying of output, so
no byte of it is lost or doubled, and no signal waits until a blocked read returns.
"""

from __future__ import annotations

import os
import signal
import threading
from contextlib import closing
from types import FrameType
from typing import Any, Self

from task_runner.cli.edge import PATIENCE, Session, drop_stdout
from task_runner.cli.exitcode import RUN_FAILED
from task_runner.cli.output import say
from task_runner.cli.tasks import write
from task_runner.client import Client, Task
from task_runner.errors import TaskRunnerError

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: stands among the signals: the task's id is known
_ACCEPTED = 0


class Foreground:
    """The first SIGINT or SIGTERM stops the task, the second leaves it no grace.

    The third, for when the daemon cannot be told, ends this process; so does the second while it is not yet
    known whether the task was accepted.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._task_id: str | None = None
        self._heard: list[str] = []
        self._passed_on = 0
        self._earlier: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        os.set_blocking(reader, True)
        threading.Thread(target=self._listen, args=(reader,), name="signals", daemon=True).start()
        self._earlier_fd = signal.set_wakeup_fd(self._writer)
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as for what a script puts into the background
                self._earlier[number] = signal.signal(number, _note)
        return self

    def __exit__(self, *_exc: object) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._earlier_fd)
        os.close(self._writer)

    def run(self, body: dict[str, Any], key: str, *, show: bool) -> Task:
        """Submit a task, copy its output, and return it when it is over."""
        with self._session.client(patience=PATIENCE) as client:
            self._task_id = task_id = client.submit(body, key)["taskId"]
            os.write(self._writer, bytes([_ACCEPTED]))
            try:
                if show:
                    self._copy(client, task_id)
                return client.wait(task_id)
            except TaskRunnerError:
                say(_still(task_id))
                raise

    def _copy(self, client: Client, task_id: str) -> None:
        try:
            with closing(client.iter_output(task_id, follow=True)) as output:
                for chunk in output:
                    write(chunk)
        except BrokenPipeError:
            drop_stdout()
            say(f"nobody reads the output any more: stopping task {task_id}")
            self._stop(task_id, None)

    def _listen(self, reader: int) -> None:
        while numbers := os.read(reader, 64):
            self._heard += [signal.Signals(number).name for number in numbers if number != _ACCEPTED]
            if len(self._heard) > (1 if self._task_id is None else 2):
                say(_still(self._task_id))
                os._exit(RUN_FAILED)
            if self._task_id is not None:
                self._pass_on(self._task_id)
        os.close(reader)

    def _pass_on(self, task_id: str) -> None:
        for name in self._heard[self._passed_on :]:
            first = self._passed_on == 0
            self._passed_on += 1
            say(f"{name}: stopping task {task_id}{' (again: no grace)' if first else ' at once'}")
            # not here: the daemon may be away, and the next signal wants to be heard
            grace = None if first else 0.0
            threading.Thread(target=self._stop, args=(task_id, grace), name="stop", daemon=True).start()

    def _stop(self, task_id: str, grace: float | None) -> None:
        try:
            with self._session.client(patience=PATIENCE, met=True) as client:
                client.stop(task_id, grace=grace, wait=0)
        except TaskRunnerError as error:
            say(f"cannot stop task {task_id}: {error}")


def _note(_number: int, _frame: FrameType | None) -> None:
    """Nothing: the wake-up descriptor already has the byte."""


def _still(task_id: str | None) -> str:
    if task_id is None:
        return "it is not known whether the task was accepted"
    return f"task {task_id} may still run: `task-runner logs -f {task_id}` shows it"
