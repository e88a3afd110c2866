"""Forks programs for tests, from a process that has loaded what they import: `nursery.py KIND FD`.

Most of what the start of a daemon, of a verb or of a runner costs is its imports, and tests start thousands. Here they
are done once. KIND is one of `KINDS`, FD a socket that keeps messages apart. Each message is a request in JSON,
{"env": {…}, "cwd": …, "session": whether it leads a session of its own, "arguments": […]}, sent with descriptors: one
end of a socket pair, on which first the pid is said, with a descriptor of the process, and at its end its wait status;
its standard input, output and error; and what else the kind wants.
"""

from __future__ import annotations

import array
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

Program = Callable[[Sequence[str], Sequence[int]], None]
#: of the tell-tale, the standard streams and a listening socket
MOST_DESCRIPTORS = 5


def daemon() -> Program:
    """A daemon on a listening socket."""
    import uvicorn

    from task_runner.api.star_app import create_app
    from task_runner.lib import failpoint

    def serve(_arguments: Sequence[str], descriptors: Sequence[int]) -> None:
        failpoint._ARMED.update(failpoint._read(os.environ.get("TASK_RUNNER_FAILPOINT", "")))  # read at import
        server = uvicorn.Server(uvicorn.Config(create_app(), access_log=False, timeout_graceful_shutdown=5))
        server.run(sockets=[socket.socket(fileno=descriptors[0])])

    return serve


def verb() -> Program:
    """The command `task-runner`."""
    import httpx  # noqa: F401  the verbs import it when they send something

    from task_runner.cli.entry import main as begin
    from task_runner.cli.main import COMMANDS

    for place in COMMANDS.values():
        importlib.import_module(f"task_runner.cli.{place.partition(':')[0]}")

    def run(arguments: Sequence[str], _descriptors: Sequence[int]) -> None:
        sys.argv = ["task-runner", *arguments]
        begin()

    return run


def runner() -> Program:
    """A runner alone; as in real life, it is forked from a process that has loaded nothing else."""
    import attempt

    def run(arguments: Sequence[str], _descriptors: Sequence[int]) -> None:
        attempt.main(arguments)

    return run


def sayer() -> Program:
    """A runner alone, with a machine that says what a test wants."""
    import sayer  # noqa: F401

    return runner()


def drove() -> Program:
    """The command `drove` of the package drove-cli: its script, when what that imports is there."""
    import droveutils  # noqa: F401
    from drovecli import DroveCli  # noqa: F401  it loads its plug-ins

    script = os.path.join(os.path.dirname(sys.executable), "drove")

    def run(arguments: Sequence[str], _descriptors: Sequence[int]) -> None:
        sys.argv = [script, *arguments]
        runpy.run_path(script, run_name="__main__")

    return run


KINDS = {each.__name__: each for each in (daemon, verb, runner, sayer, drove)}


class Nursery:
    """The forked programs of one kind, and who wants to know of their ends."""

    def __init__(self, asks: socket.socket) -> None:
        self._asks = asks
        self._children: dict[int, tuple[int, socket.socket]] = {}

    def next(self) -> tuple[dict[str, Any], list[int]] | None:
        """None in the nursery, for ever. In a forked child: what it shall be."""
        poll = select.poll()
        poll.register(self._asks, select.POLLIN)
        while True:
            for fd, _event in poll.poll():
                if fd != self._asks.fileno():
                    poll.unregister(fd)
                    self._end(fd)
                    continue
                ask, descriptors = self._hear()
                tell, *given = descriptors
                pid = os.fork()
                if pid == 0:
                    self._forget(tell)
                    return ask, given
                for each in given:
                    os.close(each)
                pidfd = os.pidfd_open(pid)
                self._children[pidfd] = (pid, socket.socket(fileno=tell))
                poll.register(pidfd, select.POLLIN)
                try:
                    socket.send_fds(self._children[pidfd][1], [b"%d" % pid], [pidfd])
                except OSError:
                    pass  # nobody wants to know

    def _hear(self) -> tuple[dict[str, Any], list[int]]:
        data, ancillary, _flags, _address = self._asks.recvmsg(1 << 20, socket.CMSG_SPACE(4 * MOST_DESCRIPTORS))
        if not data:
            for pid, _tell in self._children.values():
                os.kill(pid, signal.SIGKILL)  # our own child, not waited for
            sys.exit(0)
        descriptors = array.array("i")
        descriptors.frombytes(ancillary[0][2])
        return json.loads(data), list(descriptors)

    def _end(self, pidfd: int) -> None:
        pid, tell = self._children.pop(pidfd)
        os.close(pidfd)
        _pid, status = os.waitpid(pid, 0)
        with tell:
            try:
                tell.sendall(b"%d" % status)
            except OSError:
                pass  # nobody wants to know

    def _forget(self, tell: int) -> None:
        """In the child: nothing is left of the nursery."""
        os.close(tell)
        self._asks.close()
        for pidfd, (_pid, other) in self._children.items():
            os.close(pidfd)
            other.close()


def become(ask: dict[str, Any], descriptors: Sequence[int]) -> None:
    """All that a child has of its own is what was asked for."""
    for number, each in enumerate(descriptors[:3]):
        os.dup2(each, number)
        os.close(each)
    for name in ("stdin", "stdout", "stderr"):
        _open_anew(name)
    os.environ.clear()
    os.environ.update(ask["env"])
    time.tzset()
    os.chdir(ask["cwd"])
    if ask["session"]:
        os.setsid()


def _open_anew(name: str) -> None:
    """As the interpreter opens them at its start: whether a stream is a terminal decides how it is buffered."""
    old = getattr(sys, name)
    mode, buffering = ("r", -1) if name == "stdin" else ("w", 1 if name == "stderr" else -1)
    new = open(old.fileno(), mode, buffering, old.encoding, old.errors, closefd=False)  # noqa: SIM115
    setattr(sys, name, new)
    setattr(sys, f"__{name}__", new)


def main() -> None:
    program = KINDS[sys.argv[1]]()
    asks = socket.socket(fileno=int(sys.argv[2]))
    gc.collect()
    gc.freeze()
    asked = Nursery(asks).next()
    assert asked is not None
    ask, descriptors = asked
    become(ask, descriptors)
    program(ask["arguments"], descriptors[3:])


if __name__ == "__main__":
    main()
