"""Daemons for tests, forked from a process that has everything loaded (tests/tools/nursery.py)."""

from __future__ import annotations

import array
import atexit
import functools
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


class Forked:
    """A forked daemon, with the methods of Popen that tests use."""

    def __init__(self, pid: int, told: socket.socket) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._told = told
        self._pidfd = os.pidfd_open(pid)  # the nursery's child is its own until the test has been told of its end

    def poll(self) -> int | None:
        try:
            return self.wait(0)
        except subprocess.TimeoutExpired:
            return None

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self._told.settimeout(timeout)
            try:
                line = self._told.recv(100)
            except (TimeoutError, BlockingIOError):
                raise subprocess.TimeoutExpired("daemon", timeout or 0) from None
            assert line, "the nursery is gone"
            self.returncode = os.waitstatus_to_exitcode(int(line))
            self._told.close()
            os.close(self._pidfd)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            try:
                signal.pidfd_send_signal(self._pidfd, number)
            except ProcessLookupError:
                pass  # it has ended, and nobody has asked yet

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


@functools.cache
def _nursery() -> socket.socket:
    """One for each process that runs tests; it ends with it."""
    ours, theirs = socket.socketpair()
    with theirs:
        running = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/tools/nursery.py"), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
        )

    def end() -> None:
        ours.close()
        running.wait()

    atexit.register(end)
    return ours


def fork_daemon(environment: dict[str, str], listener: int, log: Path) -> Forked:
    """Start a daemon with this environment on a listening socket."""
    ours, theirs = socket.socketpair()
    ask = json.dumps({"env": environment, "cwd": str(ROOT), "log": str(log)}).encode()
    descriptors = array.array("i", [listener, theirs.fileno()])
    with theirs:
        _nursery().sendmsg([ask], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
    pid = b""
    while not pid.endswith(b"\n"):
        piece = ours.recv(1)
        assert piece, "the nursery is gone"
        pid += piece
    return Forked(int(pid), ours)
