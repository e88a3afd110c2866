"""How long to wait for a daemon that has gone away."""

from __future__ import annotations

import time
from collections.abc import Callable

from task_runner.errors import TaskRunnerError

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0


class Patience:
    """One outage after another, each at most ``seconds`` long."""

    def __init__(self, seconds: float, on_outage: Callable[[TaskRunnerError], None] | None = None) -> None:
        self.seconds = seconds
        self._on_outage = on_outage
        self._since: float | None = None
        self._pause = FIRST_PAUSE

    def renew(self) -> None:
        """The daemon has been heard of: the outage, if there was one, is over."""
        self._since, self._pause = None, FIRST_PAUSE

    def spend(self, error: TaskRunnerError) -> None:
        """Pause before the next try. Raises ``error`` where this outage has lasted long enough."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            if self.seconds > 0 and self._on_outage is not None:
                self._on_outage(error)
        if now - self._since >= self.seconds:
            raise error
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
