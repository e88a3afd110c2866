"""What the two threads of the `container` machine tell each other: one follows the container, one takes signals."""

from __future__ import annotations

import enum
import signal
import threading

#: wakes the thread that takes signals
WAKE = signal.SIGRTMIN


class Phase(enum.Enum):
    """How far the container is."""

    FETCHING = "fetching"  #: there is none, and none is being made
    MAKING = "making"  #: the engine may be making it, or starting it
    LIVING = "living"  #: it has been started
    OVER = "over"  #: all is said and done


class Cut(Exception):
    """A signal ended it before it was started."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Gate:
    """Where a signal that ends the action and a container that is being made meet: the first wins."""

    def __init__(self, phase: Phase) -> None:
        self._lock = threading.Lock()
        self._main = threading.get_ident()
        self._ending: int | None = None
        self.phase = phase
        #: the container, once it lives
        self.container = ""

    # -- from the thread that takes signals

    def end(self, number: int) -> bool:
        """End what has not been started. True: there is nothing to be put away, the process may go at once."""
        with self._lock:
            if self.phase in (Phase.FETCHING, Phase.MAKING):
                self._ending = number
            return self.phase is Phase.FETCHING

    # -- from the thread that follows the container

    def check(self) -> None:
        """Raises Cut where it is to end, if it does not live yet."""
        with self._lock:
            if self._ending is not None and self.phase is not Phase.LIVING:
                raise Cut(self._ending)

    def make(self) -> None:
        """From now on there may be a container. Raises Cut."""
        with self._lock:
            if self._ending is not None:
                raise Cut(self._ending)
            self.phase = Phase.MAKING

    def live(self, container: str) -> None:
        """It has been started: signals are for it, those that have come before as well."""
        with self._lock:
            self.container, self.phase = container, Phase.LIVING
        self.wake()

    def close(self) -> None:
        """Nothing is left to be told."""
        with self._lock:
            self.phase = Phase.OVER
        self.wake()

    def wake(self) -> None:
        signal.pthread_kill(self._main, WAKE)
