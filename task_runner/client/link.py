"""What is known of one daemon, and how long a client bears with it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from task_runner import __version__
from task_runner.client.errors import (
    Alien,
    ApiError,
    ConnectionBroken,
    ConnectionFailed,
    Silent,
    Unavailable,
    Untrusted,
)
from task_runner.client.steps import Pause
from task_runner.client.urls import is_local
from task_runner.errors import TaskRunnerError

#: seconds before the second try, and at most between later ones, which is what the daemon asks for when it is not ready
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 1.0
#: seconds in which a request is repeated on the strength of its key: far less than the day for which a daemon
#: remembers keys, unless its `idempotency_seconds` says otherwise
KEY_SECONDS = 3600.0


class Link:
    """The daemon at one address. Two threads may use it at once: what they race for is who tells of an outage.

    ``hint``: why there is no token. ``state_dir``: its state directory, where that is known. ``timeout``: seconds to
    wait for an answer that needs no waiting. ``patience``: seconds to wait for a daemon that is away; ``on_outage`` is
    told when such a wait begins. ``met``: it has answered before. ``ca_file``: a PEM file of the authorities that are
    trusted where it speaks TLS.
    """

    def __init__(
        self,
        *,
        url: str,
        token: str | None = None,
        hint: str | None = None,
        state_dir: str | None = None,
        timeout: float,
        patience: float,
        on_outage: Callable[[TaskRunnerError], None] | None = None,
        met: bool,
        ca_file: str | None = None,
    ) -> None:
        self.url, self.token, self.hint, self.state_dir = url, token, hint, state_dir
        self.timeout, self.patience, self.on_outage, self.met = timeout, patience, on_outage, met
        self.ca_file = ca_file
        #: whether its directories are ours
        self.local = is_local(url)
        self._told = False

    def heard(self) -> None:
        """It has answered."""
        self.met, self._told = True, False

    def lost(self, error: TaskRunnerError) -> None:
        """It does not answer, and is going to be waited for."""
        if not self._told and self.patience > 0 and self.on_outage is not None:
            self._told = True
            self.on_outage(error)

    def alien(self) -> Alien:
        """The error for an answer that makes no sense."""
        return Alien(502, f"what answers at {self.url} is not Task Runner, or not of this version ({__version__})")


class Outage:
    """Decides whether and when to try again, for one request or stream. One outage after another, each as long as the
    patience at most; ``most``: all of them together."""

    def __init__(self, link: Link, most: float | None = None) -> None:
        self._link = link
        self._seconds = link.patience if most is None else min(link.patience, most)
        self._since: float | None = None
        self._pause = FIRST_PAUSE

    def over(self) -> None:
        """The daemon has been heard of."""
        self._since, self._pause = None, FIRST_PAUSE

    def pause(self, error: ApiError | ConnectionFailed) -> Pause:
        """What to do before the next try. Raises ``error`` where it makes no sense to try again, or not any more."""
        if isinstance(error, ApiError):
            hopeless = not isinstance(error, Unavailable)
        elif isinstance(error, (ConnectionBroken, Silent)):
            hopeless, self._link.met = False, True  # it is there
        else:
            hopeless = isinstance(error, Untrusted) or not self._link.met
        if hopeless:
            raise error
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._link.lost(error)
        left = self._since + self._seconds - now
        if left <= 0:
            raise error
        # many clients that lose one daemon do not come back in step; `random` takes longer to import than all of this
        pause = min(left, self._pause * (0.5 + os.urandom(1)[0] / 510))
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return Pause(pause)
