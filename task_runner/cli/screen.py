"""The whole terminal: drawn anew when there is something new, and left as it was found.

Only the main thread draws. It sleeps in one `select` over the keys and a pipe, by which signals (it is Python's wake-up
descriptor) and other threads wake it.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable
from types import FrameType
from typing import Any, Self

from rich.console import Console, RenderableType
from rich.control import Control
from rich.live import Live

from task_runner.cli.exitcode import OK

#: seconds between two drawings at least, so that a thousand changes are not a thousand of them
SHORTEST = 0.1
#: and at most: ages grow
LONGEST = 1.0

_HEARD = (signal.SIGWINCH, signal.SIGTERM, signal.SIGTSTP, signal.SIGCONT)


def is_screen() -> bool:
    """Whether standard output is a terminal on which the cursor can be moved."""
    return sys.stdout.isatty() and os.environ.get("TERM") not in (None, "", "dumb", "unknown")


class Screen:
    """``draw`` makes the picture for a width and a height; ``on_key`` is told of keys other than q."""

    def __init__(self, draw: Callable[[int, int], RenderableType], on_key: Callable[[str], None] | None = None) -> None:
        self._draw, self._on_key = draw, on_key
        self._console = Console(markup=False, highlight=False, emoji=False)
        self._live: Live | None = None
        self._reader, self._writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._keys = sys.stdin.fileno() if sys.stdin.isatty() else None
        self._modes: list[Any] | None = None
        self._earlier: dict[signal.Signals, Any] = {}
        self._error: BaseException | None = None
        self._drawn = 0.0

    @property
    def height(self) -> int:
        return self._console.size.height

    def wake(self) -> None:
        """There is something new. For any thread."""
        try:
            os.write(self._writer, b"\0")
        except BlockingIOError:
            pass  # it has been told often enough

    def fail(self, error: BaseException) -> None:
        """Let `run` raise this. For any thread."""
        self._error = error
        self.wake()

    def __enter__(self) -> Self:
        self._earlier_fd = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in _HEARD:
            self._earlier[number] = signal.signal(number, _note)
        self._begin()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._end()
        for number, handler in self._earlier.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._earlier_fd)
        # its pipe stays: a thread may be about to write to it

    def run(self) -> int:
        """Show it until the end; returns the exit code. Ctrl-C raises KeyboardInterrupt."""
        while True:
            self._show()
            code = self._wait()
            if code is not None:
                return code
            if self._error is not None:
                raise self._error

    def _begin(self) -> None:
        if self._keys is not None:
            self._modes = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys, termios.TCSADRAIN)
        self._live = Live(
            console=self._console, screen=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False
        )
        self._live.start()

    def _end(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._keys is not None and self._modes is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._modes)

    def _show(self) -> None:
        assert self._live is not None
        width, height = self._console.size
        self._live.update(self._draw(width, height), refresh=True)
        self._drawn = time.monotonic()

    def _wait(self) -> int | None:
        """Until it is to be drawn again (None), or at the end (the exit code)."""
        sources = [self._reader] if self._keys is None else [self._reader, self._keys]
        until = self._drawn + LONGEST
        while (left := until - time.monotonic()) > 0:
            ready, _, _ = select.select(sources, [], [], left)
            if self._reader in ready and (code := self._hear(os.read(self._reader, 4096))) is not None:
                return code
            if self._keys in ready and (code := self._press()) is not None:
                return code
            if ready:
                until = min(until, max(time.monotonic(), self._drawn + SHORTEST))
        return None

    def _hear(self, told: bytes) -> int | None:
        if signal.SIGTERM in told:
            return 128 + signal.SIGTERM
        if signal.SIGTSTP in told:
            self._end()
            os.kill(os.getpid(), signal.SIGSTOP)  # here it stays until somebody lets it go on
            self._begin()
        elif signal.SIGWINCH in told:
            self._console.control(Control.clear())
        return None

    def _press(self) -> int | None:
        assert self._keys is not None
        try:
            typed = os.read(self._keys, 64).decode(errors="ignore")
        except OSError:
            typed = ""
        if typed in ("", "q", "Q"):  # nothing: the terminal is gone
            return OK
        if typed.isprintable() and self._on_key is not None:  # not the sequences of arrows and the like
            for key in typed:
                if key in "qQ":
                    return OK
                self._on_key(key)
        return None


def _note(_number: int, _frame: FrameType | None) -> None:
    """The number goes through the wake-up descriptor."""
