"""Changes of tasks, and other slow answers, waited for by threads while the main one does something else."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self

from task_runner.client import Client, Event
from task_runner.client.blocking import Opened
from task_runner.errors import TaskRunnerError

#: seconds that a thread has to end when nobody listens any more
FAREWELL = 1.0


class Worker:
    """A thread that works until it has done so, fails, or is told to end. ``on_error`` is told of its failure."""

    def __init__(
        self,
        work: Callable[[threading.Event], None],
        on_error: Callable[[TaskRunnerError], None],
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        """``work`` gets what is set when it is to end; ``wake`` lets it look."""
        self._work, self._on_error, self._wake = work, on_error, wake
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.end()

    def end(self) -> None:
        """Let it end. One that waits for a daemon that is away is left to end with this process."""
        self.ended.set()
        self._wake()
        self._thread.join(FAREWELL)

    def _run(self) -> None:
        try:
            self._work(self.ended)
        except TaskRunnerError as error:
            if not self.ended.is_set():
                self._on_error(error)
        except Exception:
            if not self.ended.is_set():  # else its connection was closed before it
                raise


class Contact:
    """Whether the daemon answers, as far as it is known to the threads that share a client.

    One thread may hear of an outage while another one has an answer from before it: that answer proves nothing, and the
    client tells of an outage once.
    """

    def __init__(self) -> None:
        self._lost = self._proven = 0

    @property
    def there(self) -> bool:
        return self._proven >= self._lost

    def lose(self) -> None:
        """There is an outage."""
        self._lost += 1

    def begin(self) -> int:
        """The daemon is about to be asked."""
        return self._lost

    def prove(self, begun: int) -> bool:
        """It has answered all that was asked since `begin` returned this; returns whether it is there."""
        self._proven = begun
        return self.there


class Ear:
    """Tells of every new change by ``tell``, and with None of signs of life: the first, and that of each new
    connection, says that what has happened before may have been missed."""

    def __init__(
        self, client: Client, tell: Callable[[Event | None], None], on_error: Callable[[TaskRunnerError], None]
    ) -> None:
        self._client, self._tell = client, tell
        self._opened = Opened()
        self._worker = Worker(self._listen, on_error, self._opened.cut_off)

    def __enter__(self) -> Self:
        self._worker.__enter__()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._worker.end()

    def _listen(self, ended: threading.Event) -> None:
        for sign in self._client.hear(self._opened):
            if ended.is_set():
                return
            self._tell(sign)
