"""A target of forwarded lines: what all kinds of it have in common.

Rule 1: a target never waits. It does what can be done at once, and says for what it is to be waited.
Rule 2: it takes a line from the log when it has room for it, so a slow one holds nothing in memory. What did not get
        through is read from the log again.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Sequence
from typing import Any

from task_runner.lib.backoff import growing
from task_runner.lib.forwarding.form import Form
from task_runner.lib.forwarding.lines import Line, Log, Reader

#: seconds before another try to reach a target: at first, and at most; the task being over, at most
BACKOFF, LONGEST_BACKOFF, LAST_BACKOFF = 0.5, 30.0, 0.5
#: lines that one target takes before others have their turn
LINES_AT_ONCE = 500


class Target:
    """Somewhere that lines go to."""

    def __init__(self, name: str, logs: Sequence[Log], form: Form) -> None:
        self.name = name
        #: lines that are known to have got there, as far as such a target can tell
        self.delivered = 0
        #: why it cannot be reached, where that is so
        self.error: str | None = None
        #: it stopped for others to have their turn
        self.busy = False
        #: the line that is to be sent next
        self.pending: Line | None = None
        self._form = form
        self._readers = [Reader(log, form.room) for log in logs]
        self._turns = list(self._readers)
        self._failures = 0
        self._retry_at = 0.0
        self._last = False

    # -- what each kind does in its own way

    def turn(self, now: float) -> None:
        """Do what can be done at once."""
        raise NotImplementedError

    def waits_for(self) -> tuple[int, int] | None:
        """The descriptor, and the events of it, that make another turn worth while."""
        raise NotImplementedError

    def due(self) -> float | None:
        """When it wants a turn whatever happens, on the monotonic clock."""
        raise NotImplementedError

    def patience(self) -> float | None:
        """At the end: seconds until a look may find that what was sent has been confirmed."""
        return None

    @property
    def done(self) -> bool:
        """Nothing is left that it could send."""
        raise NotImplementedError

    def close(self) -> None:
        """Take leave. What has not been sent will not be."""
        self.go_back([])

    # -- lines

    def look_ahead(self) -> Line | None:
        """The line to be sent next, from one log after the other."""
        for _ in self._turns:
            if self.pending is not None:
                break
            reader = self._turns.pop(0)
            self._turns.append(reader)
            self.pending = reader.next()
        return self.pending

    def encode(self, line: Line) -> bytes:
        return self._form.encode(line, line.reader.log.time(line.end, time.time()))

    def go_back(self, lines: Sequence[Line]) -> None:
        """These, in the order in which they were taken, and the pending one are to be taken anew."""
        behind = [*lines, self.pending] if self.pending is not None else [*lines]
        for line in reversed(behind):
            line.reader.seek(line.start, line.part)
        self.pending = None

    # -- for who follows

    def state(self) -> dict[str, Any]:
        """Where it is. Asked for after `close`, so nothing is on its way."""
        places = [each.place for each in self._readers]
        return {"to": self.name, "lines": self.delivered, "error": self.error, "at": places}

    def resume(self, state: dict[str, Any]) -> None:
        self.delivered = state["lines"]
        for reader, (start, part, cut) in zip(self._readers, state["at"], strict=True):
            reader.seek(start, part, cut)

    # -- trouble

    def may_try(self, now: float) -> bool:
        return now >= self._retry_at

    def failed(self, error: OSError, now: float) -> None:
        """Try again, later and later."""
        self.error = error.strerror or str(error) or type(error).__name__
        self._failures += 1
        wait = growing(BACKOFF, 2.0, LONGEST_BACKOFF, self._failures)
        self._retry_at = now + (min(wait, LAST_BACKOFF) if self._last else wait)

    def worked(self) -> None:
        self.error = None
        self._failures = 0

    def hurry(self) -> None:
        """The task is over: what does not get there soon never will."""
        self._last = True
        self._retry_at = 0.0


class Lookup:
    """The addresses of a host. A thread asks for them: the question can take long, and cannot be taken back."""

    def __init__(self, host: str, port: int, kind: socket.SocketKind) -> None:
        self.fd, self._bell = os.pipe2(os.O_CLOEXEC)
        self._ask = (host, port, kind)
        self._found: list[tuple[int, tuple[str, int]]] | None = None
        self._error: OSError | None = None
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        host, port, kind = self._ask
        try:
            found = socket.getaddrinfo(host, port, type=kind)
            self._found = [(family, address) for family, _kind, _protocol, _name, address in found]  # type: ignore[misc]
        except (OSError, UnicodeError) as error:
            self._error = error if isinstance(error, OSError) else OSError(str(error))
        os.close(self._bell)

    def addresses(self) -> list[tuple[int, tuple[str, int]]] | None:
        """Family and address of each; None: not known yet. Raises OSError."""
        if self._error is not None:
            raise self._error
        return self._found

    def close(self) -> None:
        os.close(self.fd)
