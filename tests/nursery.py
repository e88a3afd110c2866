"""Programs for tests, forked from processes that have everything loaded (tests/tools/nursery.py)."""

from __future__ import annotations

import array
import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL


class Forked:
    """A forked program, with the methods of Popen that tests use; its pipes carry bytes, and are not buffered."""

    def __init__(self, kind: str, *arguments: str, env: dict[str, str], cwd: str | Path = ROOT, session: bool = False,
                 more: Sequence[int] = (), stdin: int = DEVNULL, stdout: int | None = None,
                 stderr: int | None = None, follows: bool = False) -> None:
        """``kind``: see tests/tools/nursery.py, as for ``more``, the descriptors that it wants. The streams: PIPE,
        DEVNULL, a descriptor, or None for the one of this process. ``follows``: it is killed when this process ends."""
        self.returncode: int | None = None
        #: one thread may signal it while another one learns of its end
        self._ending = threading.Lock()
        self._told, tell = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self.stdin, theirs_in = _reader(stdin)
        self.stdout, theirs_out = _writer(stdout, 1)
        self.stderr, theirs_err = _writer(stderr, 2)
        ask = {"env": env, "cwd": str(cwd), "session": session, "arguments": arguments, "follows": follows}
        streams = [theirs_in, theirs_out, theirs_err]
        if follows:
            more = [*more, own := os.pidfd_open(os.getpid())]
        descriptors = array.array("i", [tell.fileno(), *streams, *more])
        try:
            _nursery(kind).sendmsg([json.dumps(ask).encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, descriptors)])
        finally:
            tell.close()
            for each in [*streams, own] if follows else streams:
                os.close(each)
        # it comes with its descriptor: it may have ended, and the nursery waited for it, before anybody here looks
        line, (self._pidfd,), _flags, _address = socket.recv_fds(self._told, 100, 1)
        self.pid = int(line)

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
                raise subprocess.TimeoutExpired("a forked program", timeout or 0) from None
            assert line, "the nursery is gone"
            with self._ending:
                self.returncode = os.waitstatus_to_exitcode(int(line))
                self._told.close()
                os.close(self._pidfd)
        return self.returncode

    def send_signal(self, number: int) -> None:
        with self._ending:
            if self.returncode is None:
                try:
                    signal.pidfd_send_signal(self._pidfd, number)
                except ProcessLookupError:
                    pass  # it has ended, and nobody has asked yet

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def communicate(self, given: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:
        """What it still says on both streams, given this to read; by then it has ended."""
        deadline = None if timeout is None else time.monotonic() + timeout
        said = {self.stdout: b"", self.stderr: b""}

        def hear(stream: Any) -> None:
            said[stream] = stream.read()

        works = [threading.Thread(target=hear, args=(each,), daemon=True) for each in said if each and not each.closed]
        if self.stdin and not self.stdin.closed:
            works.append(threading.Thread(target=_write, args=(self.stdin, given or b""), daemon=True))
        for each in works:
            each.start()
        for each in works:
            each.join(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if each.is_alive():
                raise subprocess.TimeoutExpired("a forked program", timeout or 0)
        self.wait(None if deadline is None else max(0.0, deadline - time.monotonic()))
        return said[self.stdout], said[self.stderr]

    def close(self) -> None:
        """Kill it if it still runs; nothing is left open."""
        self.kill()
        self.wait()
        for pipe in (self.stdin, self.stdout, self.stderr):
            if pipe:
                pipe.close()


def _reader(given: int) -> tuple[Any, int]:
    """Our end, if it is a pipe, and the one that the program reads from."""
    if given != PIPE:
        return None, os.open(os.devnull, os.O_RDONLY) if given == DEVNULL else os.dup(given)
    theirs, ours = os.pipe()
    return open(ours, "wb", buffering=0), theirs


def _writer(given: int | None, own: int) -> tuple[Any, int]:
    if given == PIPE:
        ours, theirs = os.pipe()
        return open(ours, "rb", buffering=0), theirs
    if given == DEVNULL:
        return None, os.open(os.devnull, os.O_WRONLY)
    return None, os.dup(own if given is None else given)


def _write(stream: Any, data: bytes) -> None:
    try:
        while data:
            data = data[stream.write(data):]
        stream.close()
    except OSError:
        stream.close()  # it reads no more


def run_verb(*arguments: str, env: dict[str, str], cwd: str | Path, given: bytes | None = None,
             timeout: float) -> subprocess.CompletedProcess[bytes]:
    """Run a verb of the command line to its end; ``given`` is its standard input."""
    stdin = DEVNULL if given is None else PIPE
    verb = Forked("verb", *arguments, env=env, cwd=cwd, stdin=stdin, stdout=PIPE, stderr=PIPE)
    try:
        out, err = verb.communicate(given, timeout)
        return subprocess.CompletedProcess(["task-runner", *arguments], verb.wait(), out, err)
    finally:
        verb.close()


#: one of each kind for each process that runs tests; it ends with it
_NURSERIES: dict[str, socket.socket] = {}
#: what the command line of a launcher may take up
PADDING = "-" * 4096


def _nursery(kind: str) -> socket.socket:
    if kind not in _NURSERIES:
        _NURSERIES[kind] = _begin(kind)
    return _NURSERIES[kind]


def adopt(kind: str, asks: socket.socket) -> None:
    """In a forked program: this kind is forked by the nursery of the process that runs the tests."""
    _NURSERIES[kind] = asks


def _begin(kind: str) -> socket.socket:
    ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with theirs:
        running = subprocess.Popen(
            [sys.executable, str(ROOT / "tests/tools/nursery.py"), kind, str(theirs.fileno()), PADDING],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "LD_BIND_NOW": "1"},
        )

    def end() -> None:
        for each in _NURSERIES.values():
            each.close()  # of all: a daemon that was left over holds the socket of another nursery, and ends with its own
        running.wait()

    atexit.register(end)
    return ours


def fork_daemon(environment: dict[str, str], listener: int, log: Path, *, launchers: bool, inside: str = "") -> Forked:
    """Start a daemon with this environment on a listening socket; ``launchers``: its launcher is forked too;
    ``inside``: code in Python, what it does to itself first."""
    asks = _asks(launchers, "container_launcher" if "TASK_RUNNER_ENGINES" in environment else "launcher")
    arguments = ["-c", inside] if inside else []
    with open(log, "ab") as file:
        streams = {"stdout": file.fileno(), "stderr": file.fileno()}
        return Forked("daemon", *arguments, env=environment, more=[listener, *asks], **streams)


def fork_server(*arguments: str, env: dict[str, str], cwd: str | Path, launchers: bool, **streams: int) -> Forked:
    """`python -m task_runner serve …`, or gunicorn or uvicorn by hand; the arguments are those of python."""
    return Forked("daemon", *arguments, env=env, cwd=cwd, more=_asks(launchers), **streams)


def _asks(launchers: bool, kind: str = "launcher") -> list[int]:
    # begun first, ended last: daemons hold the other end
    return [_nursery(kind).fileno()] if launchers else []
