"""What the daemon can say to a runner: one signal each, no arguments, nothing to connect to.

    SIGTERM              stop (SIGINT, SIGHUP and SIGQUIT too, for people at a terminal)
    SIGUSR1, SIGUSR2     pause, resume
    SIGURG               there is new input (lib/inputpipe.py); a runner of a version without it ignores the signal
    SIGRTMIN+N-1         pass signal N (1 to 31) on to the command

The 31 real-time signals that the C library leaves free are just enough for the 31 classic ones, and the
kernel queues them, so none is lost. How to stop, where a request says otherwise than the spec, stands in stop.json.

Handlers only take note: Python's wake-up descriptor turns each signal into a byte, the runner's one loop reads.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

STOP = signal.SIGTERM
PAUSE = signal.SIGUSR1
RESUME = signal.SIGUSR2
FEED = signal.SIGURG
STOPS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})

_FORWARD = signal.SIGRTMIN - 1
HANDLED: Iterable[int] = (*STOPS, PAUSE, RESUME, FEED, *range(signal.SIGRTMIN, signal.SIGRTMAX + 1))


def forwarding(number: int) -> int:
    """The signal that makes a runner pass ``number`` on. Raises ValueError for one that is not classic."""
    if not 1 <= number <= 31:
        raise ValueError(f"signal {number} cannot be passed on")
    return _FORWARD + number


def forwarded(number: int) -> int | None:
    """The signal to pass on, if this one asks for that."""
    return number - _FORWARD if number > _FORWARD else None


def parse(name: str) -> int:
    """The number of a classic signal: "SIGTERM", "TERM", "15". Raises ValueError."""
    text = name.strip().upper()
    if text.isdigit():
        number = int(text)
    else:
        number = getattr(signal.Signals, text if text.startswith("SIG") else f"SIG{text}", 0)
    if not 1 <= number <= 31:
        raise ValueError(f"{name!r} is not a signal from 1 to 31, by name or number")
    return number


def name_of(number: int) -> str:
    """SIGTERM for 15, SIGRTMIN+3 for 37."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"


def install() -> None:
    """Let every signal of the runner be noted. Done once in the launcher: forks inherit handlers."""
    for number in HANDLED:
        signal.signal(number, _note)


def _note(_number: int, _frame: object) -> None:
    """Nothing: the wake-up descriptor already has the byte."""


class Inbox:
    """The signals that have come in. Opened by the runner, after which they are no longer blocked."""

    def __init__(self) -> None:
        self.fd, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, _note)
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        signal.pthread_sigmask(signal.SIG_SETMASK, [])

    def read(self) -> bytes:
        """The numbers of the signals since the last call."""
        try:
            return os.read(self.fd, 4096)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self._writer)
        os.close(self.fd)
