"""Copying a container's output while it runs, however often its engine is restarted."""

from __future__ import annotations

import threading
import time

from task_runner.machines.containers.engine import PATIENCE, Asker
from task_runner.machines.containers.log import Log

#: seconds after the end for output that finds no space
SPACE = 5.0
_AGAIN = 0.25


class Copier:
    """Copies in a thread and by a connection of its own."""

    def __init__(self, container: str, asker: Asker, log: Log) -> None:
        self._container = container
        self._asker = asker.another()
        self._log = log
        self._ended = threading.Event()
        self._unread: str | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def see_out(self) -> str | None:
        """When the container has ended: wait until all is in the log; returns why some of it is not."""
        self._ended.set()
        self._thread.join(SPACE)
        if self._thread.is_alive():
            self._log.give_up.set()
            self._thread.join()
        if self._log.unkept:
            return f"there was no space for {self._log.unkept} bytes of its output"
        return self._unread

    def _run(self) -> None:
        failing_since: float | None = None
        while True:
            try:
                for stream, data in self._asker.engine().output(self._container, self._log.counts):
                    self._log.write(stream, data)
                    failing_since = None
                return
            except Exception as error:  # whatever a client library raises: it must not be the end of the output
                self._asker.close()
                now = time.monotonic()
                if failing_since is None or not self._ended.is_set():
                    failing_since = now
                if now - failing_since > PATIENCE:
                    self._unread = f"what it wrote last could not be read: {error}"
                    return
                time.sleep(_AGAIN)
