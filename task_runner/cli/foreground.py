"""Work in the foreground: what would stop a command stops it, and its output is ours.

Signals are heard by a thread, through Python's wake-up descriptor: nothing interrupts the copying of output, so
no byte of it is lost or doubled, and no signal waits until a blocked read returns.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from abc import ABC, abstractmethod
from contextlib import closing
from types import FrameType
from typing import Any, BinaryIO, ClassVar, Generic, Self, TypeVar

from task_runner.cli.edge import PATIENCE, Session, drop_stdout, report
from task_runner.cli.exitcode import RUN_FAILED
from task_runner.cli.input import pass_on
from task_runner.cli.output import say
from task_runner.client import Client, Task
from task_runner.errors import TaskRunnerError

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
#: stands among the signals: the id is known
_ACCEPTED = 0


class Foreground(ABC, Generic[T]):
    """The first SIGINT or SIGTERM stops the work, the second leaves it no grace.

    The third, for when the daemon cannot be told, ends this process; so does the second while it is not yet
    known whether the work was accepted.
    """

    #: what people call it, and what shows it later
    kind: ClassVar[str]
    look: ClassVar[str]

    def __init__(self, session: Session) -> None:
        self._session = session
        self._id: str | None = None
        self._heard: list[str] = []
        self._passed_on = 0
        self._earlier: dict[signal.Signals, Any] = {}

    @property
    def heard(self) -> str | None:
        """The signal on which the work was stopped."""
        return self._heard[0] if self._passed_on else None

    @abstractmethod
    def _submit(self, client: Client) -> str:
        """Hand it in; returns its id."""

    @abstractmethod
    def _copy(self, client: Client, work_id: str) -> None:
        """Copy its output to the end. Raises BrokenPipeError where nobody reads."""

    @abstractmethod
    def _finish(self, client: Client, work_id: str) -> T:
        """It, when it is over."""

    @abstractmethod
    def _request_stop(self, client: Client, work_id: str, grace: float | None) -> None:
        """Ask for its end, and do not wait for that."""

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

    def run(self) -> T:
        """Submit the work, copy its output, and return it when it is over."""
        with self._session.client(patience=PATIENCE) as client:
            self._id = work_id = self._submit(client)
            os.write(self._writer, bytes([_ACCEPTED]))
            try:
                self._show(client, work_id)
                return self._finish(client, work_id)
            except TaskRunnerError:
                say(self._still())
                raise

    def _show(self, client: Client, work_id: str) -> None:
        try:
            self._copy(client, work_id)
        except BrokenPipeError:
            drop_stdout()
            say(f"nobody reads the output any more: stopping {self.kind} {work_id}")
            self._stop(work_id, None)

    def _listen(self, reader: int) -> None:
        while numbers := os.read(reader, 64):
            self._heard += [signal.Signals(number).name for number in numbers if number != _ACCEPTED]
            if len(self._heard) > (1 if self._id is None else 2):
                say(self._still())
                os._exit(RUN_FAILED)
            if self._id is not None:
                self._pass_on(self._id)
        os.close(reader)

    def _pass_on(self, work_id: str) -> None:
        for name in self._heard[self._passed_on :]:
            first = self._passed_on == 0
            self._passed_on += 1
            say(f"{name}: stopping {self.kind} {work_id}{' (again: no grace)' if first else ' at once'}")
            # not here: the daemon may be away, and the next signal wants to be heard
            grace = None if first else 0.0
            threading.Thread(target=self._stop, args=(work_id, grace), name="stop", daemon=True).start()

    def _stop(self, work_id: str, grace: float | None) -> None:
        try:
            with self._session.client(patience=PATIENCE, met=True) as client:
                self._request_stop(client, work_id, grace)
        except TaskRunnerError as error:
            say(f"cannot stop {self.kind} {work_id}: {error}")

    def _still(self) -> str:
        if self._id is None:
            return f"it is not known whether the {self.kind} was accepted"
        return f"{self.kind} {self._id} may still run: `task-runner {self.look} {self._id}` shows it"


class TaskInForeground(Foreground[Task]):
    """One task. ``with_stdin``: our standard input is its; ``show``: its output is ours."""

    kind, look = "task", "logs -f"

    def __init__(self, session: Session, body: dict[str, Any], key: str, *, show: bool, with_stdin: bool) -> None:
        super().__init__(session)
        self._body, self._key, self._shown, self._with_stdin = body, key, show, with_stdin

    def _submit(self, client: Client) -> str:
        return client.submit(self._body, self._key)["taskId"]

    def _copy(self, client: Client, work_id: str) -> None:
        if self._with_stdin:
            threading.Thread(target=self._feed, args=(work_id,), name="stdin", daemon=True).start()
        if not self._shown:
            return
        if self._body.get("outputMode") != "separate":
            copy_output(client, work_id, sys.stdout.buffer)
            return
        errors = threading.Thread(target=self._copy_errors, args=(work_id,), name="stderr", daemon=True)
        errors.start()
        copy_output(client, work_id, sys.stdout.buffer, "stdout")
        errors.join()

    def _finish(self, client: Client, work_id: str) -> Task:
        return client.wait(work_id)

    def _request_stop(self, client: Client, work_id: str, grace: float | None) -> None:
        client.stop(work_id, grace=grace, wait=0)

    def _copy_errors(self, work_id: str) -> None:
        try:
            with self._session.client(patience=PATIENCE, met=True) as client:
                copy_output(client, work_id, sys.stderr.buffer, "stderr")
        except TaskRunnerError as error:
            report(error, about="stderr")
        except BrokenPipeError:
            pass  # there is nobody left to tell

    def _feed(self, work_id: str) -> None:
        try:
            with self._session.client(patience=PATIENCE, met=True) as client:
                pass_on(client, work_id, 0)
        except (TaskRunnerError, OSError) as error:
            say(f"standard input is not passed on any more: {error}")


def copy_output(client: Client, task_id: str, target: BinaryIO, stream: str | None = None) -> None:
    """Copy what a task writes, in all of its attempts, to its end. Raises BrokenPipeError where nobody reads."""
    shown = 0
    while (latest := client.get(task_id)["attempt"]) > shown:
        for attempt in range(shown + 1, latest + 1):
            if attempt > 1 and stream in (None, "stdout"):
                say(f"attempt {attempt}")
            with closing(client.iter_output(task_id, follow=True, attempt=attempt, stream=stream)) as output:
                for chunk in output:
                    target.write(chunk)
                    target.flush()
        shown = latest


def _note(_number: int, _frame: FrameType | None) -> None:
    """Nothing: the wake-up descriptor already has the byte."""
