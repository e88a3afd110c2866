"""The launcher: a small process of the daemon that has the runner loaded and forks one for every task.

It reads requests (lib/request.py) from a stream socket, its standard input: one line with the length of what
follows, then JSON. A runner that could not claim its attempt says why on the same socket, one line of JSON;
otherwise nothing is answered, since the lock and the status file tell the daemon what happened.

Rule 1: the launcher dies with the daemon (PR_SET_PDEATHSIG), runners do not.
Rule 2: launcher and runners that have not claimed yet hold `launcher.lock`. A daemon that finds it free knows that
        no start of an earlier daemon is still on its way.
Rule 3: one thread, no children waited for: SIGCHLD is ignored, so the kernel reaps runners, and whoever wants to
        know of their end holds a pidfd.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import gc
import json
import os
import resource
import select
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from task_runner.errors import TaskRunnerError
from task_runner.lib import failpoint, lock, signals
from task_runner.lib.equipment import Options
from task_runner.lib.request import encode_request
from task_runner.lib.runner import TaskRunner
from task_runner.lib.taskdir import AttemptDirectory, remove_tree, write_control
from task_runner.machines import oom
from task_runner.machines.walls import forbid_new_privileges
from task_runner.model.codec import from_json
from task_runner.model.grant import Grant
from task_runner.model.spec import Spec

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
REHEARSALS = 10


def main(argv: list[str]) -> NoReturn:
    """Fork runners until the daemon goes. Arguments: the path of launcher.lock, which stands in the state directory;
    how many files a task may open; the options that requests are going to have."""
    failpoint.reach("launcher.begun")
    daemon = socket.socket(fileno=0)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if _has_gone(daemon):
        sys.exit(0)  # before it could be watched
    # the daemon needs a descriptor for every runner and has raised its own limit; commands get the usual one
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(int(argv[2]), hard), hard))
    os.umask(0o077)
    os.chdir("/")
    held = os.open(argv[1], os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(held, fcntl.LOCK_SH)
    forbid_new_privileges()  # runners and all that they start inherit that
    signals.install()
    oom.shield()
    _prepare(_Rehearsal(os.path.join(os.path.dirname(argv[1]), "tasks"), argv[3].encode(), daemon))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    gc.collect()
    gc.disable()
    gc.freeze()
    with open(0, "rb", buffering=1 << 18, closefd=False) as requests:
        _serve(requests, daemon, held)
    sys.exit(0)


def _serve(requests: BinaryIO, daemon: socket.socket, held: int) -> None:
    while head := requests.readline():
        body = requests.read(int(head))
        if len(body) < int(head):
            return
        try:
            pid = os.fork()
        except OSError as error:
            request = _head(body)
            _say(daemon, request["id"], request["attempt"], f"fork: {error.strerror}")
            continue
        if pid == 0:
            if (start := _decode(body, daemon)) is None:
                os._exit(1)
            _become_runner(start, daemon, held)


@dataclass(frozen=True, slots=True)
class _Start:
    """A request, decoded. In the runner: each fork takes the launcher's pages from it as well, so decoding there costs
    it the same copies, one task after the other, where runners work side by side.
    """

    task_id: str
    directory: AttemptDirectory
    spec_json: bytes
    runner: TaskRunner
    #: it goes on with what a dead runner had in hand
    take_up: bool


def _head(body: bytes) -> dict[str, Any]:
    """Which task, which attempt, and where."""
    head: dict[str, Any] = json.loads(body[: body.index(b"\n")])
    return head


def _decode(body: bytes, daemon: socket.socket) -> _Start | None:
    request = _head(body)
    _head_json, options_json, grant_json, spec_json = body.split(b"\n", 3)
    directory = AttemptDirectory(request["directory"], request["attempt"])
    try:
        spec = from_json(Spec, json.loads(spec_json))
        grant = from_json(Grant, json.loads(grant_json)) if grant_json else None
        runner = TaskRunner(request["id"], spec, directory, _options(options_json), grant=grant)
    except (ValueError, TaskRunnerError) as error:
        _say(daemon, request["id"], directory.attempt, str(error))
        return None
    return _Start(request["id"], directory, spec_json, runner, request.get("takeUp") is True)


@functools.lru_cache(maxsize=4)
def _options(options_json: bytes) -> Options:
    return from_json(Options, json.loads(options_json))


def _become_runner(start: _Start, daemon: socket.socket, held: int) -> NoReturn:
    """Everything from here on is the runner's process; it does not return into the launcher's loop."""
    try:
        failpoint.reach("runner.forked")
        os.setsid()
        claimed = _claim(start, daemon)
        os.close(held)
        daemon.detach()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.close(null)
        if claimed:
            failpoint.reach("runner.claimed")
            start.runner.run()
    except BaseException:
        import traceback

        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _claim(start: _Start, daemon: socket.socket) -> bool:
    """Make the directory and claim the attempt; False if it is not ours to run, or cannot be run now."""
    if _has_gone(daemon):
        return False
    try:
        start.directory.create()
        write_control(start.directory.spec, start.spec_json)
        start.runner.claim(take_up=start.take_up)
    except lock.AlreadyClaimed:
        return False
    except OSError as error:
        _answer(daemon, start, str(error))
        return False
    return True


def _has_gone(daemon: socket.socket) -> bool:
    """Whether the daemon that asked for this start is not there any more.

    Then the task is another daemon's to start, which may have done so, and have removed the task with its directory
    when it was over: no claim would be left to say that it has run. A launcher that is slow to begin finds requests
    of a daemon that has died meanwhile, and a runner that is slow may come to its claim when nobody waits for it any
    more (`starts_finished`).
    """
    poll = select.poll()
    poll.register(daemon, 0)  # that the other end is closed is told in any case
    return bool(poll.poll(0))


def _answer(daemon: socket.socket, start: _Start, error: str) -> None:
    _say(daemon, start.task_id, start.directory.attempt, error)


def _say(daemon: socket.socket, task_id: str, attempt: int, error: str) -> None:
    """Say that a start did not happen. Short enough that answers of several processes do not mix."""
    answer = {"id": task_id, "attempt": attempt, "error": error[:500]}
    try:
        daemon.send(json.dumps(answer).encode() + b"\n", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        pass  # the daemon looks for starts that nothing came of


class _Rehearsal:
    """A task that is run right here, so that what happens once in a process has happened before any fork.

    Caches are filled, and the interpreter has rewritten the byte code of what runs often. Each runner would do that
    on pages of its own: rehearsals save it a third of its private memory, and the time to copy that.
    """

    def __init__(self, tasks: str, options: bytes, daemon: socket.socket) -> None:
        """``options``: those of real tasks. The daemon's bell is not rung."""
        self._directory = AttemptDirectory(f"{tasks}/.gone-rehearsal", 1)
        self._daemon = daemon
        self.options = options
        silent = json.dumps({**json.loads(options), "bell": None}).encode()
        spec = b'{"actions": [{"machine": "process", "parameters": {"command": ["true"]}}]}'
        self._body = encode_request("rehearsal", 1, self._directory.path, spec, silent).split(b"\n", 1)[1]

    def run(self) -> None:
        start = _decode(self._body, self._daemon)
        if start is None or not _claim(start, self._daemon):
            return  # no space left, say; runners work without
        start.runner.run()
        start.runner.close()
        os.unlink(self._directory.lock)

    def close(self) -> None:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
        remove_tree(self._directory.path)


def _prepare(rehearsal: _Rehearsal) -> None:
    """Make runners small and fast."""
    for _ in range(REHEARSALS):
        rehearsal.run()
    rehearsal.close()
    _options(rehearsal.options)  # no runner will have to read them


if __name__ == "__main__":
    main(sys.argv)
