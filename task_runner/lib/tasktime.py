"""The time that a task has had. It stands still while the task is paused, and so do all limits that are set by it."""

from __future__ import annotations

from task_runner.lib.clock import Clock


class TaskTime:
    """A clock that can be stopped."""

    __slots__ = ("_clock", "_since", "paused_seconds")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: float | None = None
        #: how long it has stood still, the present pause not counted
        self.paused_seconds = 0.0

    @property
    def paused(self) -> bool:
        return self._since is not None

    def now(self) -> float:
        """Seconds, from where nobody knows: only differences mean something."""
        at = self._clock.monotonic() if self._since is None else self._since
        return at - self.paused_seconds

    def inherit(self, paused_seconds: float, since: float | None) -> None:
        """Go on where another left off; ``since``: it has been paused for so many seconds beside that."""
        self.paused_seconds = paused_seconds
        self._since = None if since is None else self._clock.monotonic() - since

    def stop(self) -> None:
        self._since = self._clock.monotonic()

    def go_on(self) -> None:
        if self._since is not None:
            self.paused_seconds += self._clock.monotonic() - self._since
            self._since = None
