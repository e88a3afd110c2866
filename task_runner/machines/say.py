"""How a machine tells its runner more than an exit code can: lines of JSON, one object each, into a pipe.

    {"state": "provisioning"}      it fetches what it needs; {"state": "running"}: what it was asked for runs
    {"paused": true}               everything of it is frozen (false: goes on); the answer to PAUSE and RESUME
    {"process": 4711}              the first process of what it runs, as this machine numbers it: to be looked at only
    {"container": {…}}             a ContainerNote, whole; each replaces the one before
    {"ended": {"exitCode": 3, "signal": null, "oomKilled": false}}
                                   what it ran has ended so; counts in place of how the machine's own process ends
    {"failed": "…"}                what it was asked for could not be started, and never will be
    {"lost": "…"}                  what it ran has ended, and nobody knows how

A machine that says "ended", "failed" or "lost" then exits. The `container` machine is *remote*: what it runs is no
descendant of the runner, so signals reach it through the machine, in its main thread:

    SIGTSTP, SIGCONT    pause; go on
    KILL (see below)    kill what it runs
    any other           pass it on to what it runs: a polite stop, or a signal that a client sends
"""

from __future__ import annotations

import json
import os
import signal
from typing import Any

#: asks a remote machine to kill what it runs
KILL = signal.SIGRTMAX


def say(fd: int | None, note: dict[str, Any]) -> None:
    """Say it; nothing happens where nobody listens."""
    if fd is None:
        return
    data = json.dumps(note).encode() + b"\n"
    try:
        while data:
            data = data[os.write(fd, data) :]
    except OSError:
        pass  # the runner is gone; whoever follows it asks the engine
