"""A call that is due soon, or some time from now: however often that is asked for, it is made once."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Protocol

from task_runner.lib.clock import Clock


class Handle(Protocol):
    """What a timer of the event loop is."""

    def cancel(self) -> object:
        """Let it not go off."""


class Waker:
    """Calls ``act`` from the event loop. ``call_later``: the loop's, unless said otherwise."""

    def __init__(
        self,
        clock: Clock,
        act: Callable[[], None],
        call_later: Callable[[float, Callable[[], None]], Handle] | None = None,
    ) -> None:
        self._clock = clock
        self._act = act
        self._call_later = call_later
        self._soon: Handle | None = None
        self._timer: Handle | None = None
        self._timer_at = math.inf
        self.closed = False

    def close(self) -> None:
        """Make no call any more."""
        self.closed = True
        for timer in (self._soon, self._timer):
            if timer is not None:
                timer.cancel()

    def soon(self) -> None:
        """Make the call when the loop comes round."""
        if self._soon is None and not self.closed:
            self._soon = self._after(0.0, self._come_round)

    def within(self, seconds: float) -> None:
        """Make the call after so many seconds at the latest."""
        at = self._clock.monotonic() + seconds
        if self._timer_at <= at or self.closed:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._timer_at = self._after(seconds, self._wake), at

    def _come_round(self) -> None:
        self._soon = None
        self._act()

    def _wake(self) -> None:
        self._timer, self._timer_at = None, math.inf
        self._act()

    def _after(self, seconds: float, act: Callable[[], None]) -> Handle:
        return (self._call_later or asyncio.get_running_loop().call_later)(seconds, act)
