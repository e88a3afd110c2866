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
import gc
import json
import os
import resource
import signal
import socket
import sys
import traceback
from typing import Any, BinaryIO, NoReturn

from task_runner.errors import TaskRunnerError
from task_runner.lib import failpoint, lock, signals
from task_runner.lib.request import encode_request
from task_runner.lib.runner import Options, TaskRunner
from task_runner.lib.taskdir import AttemptDirectory, remove_tree
from task_runner.model.codec import from_json
from task_runner.model.spec import Spec

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
REHEARSALS = 5


def main(argv: list[str]) -> NoReturn:
    """Fork runners until the daemon goes. Arguments: the path of launcher.lock, which stands in the state directory;
    how many files a task may open."""
    parent = os.getppid()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(0)  # the daemon went before it could be watched
    # the daemon needs a descriptor for every runner and has raised its own limit; commands get the usual one
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(int(argv[2]), hard), hard))
    os.umask(0o077)
    os.chdir("/")
    held = os.open(argv[1], os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    fcntl.flock(held, fcntl.LOCK_SH)
    signals.install()
    daemon = socket.socket(fileno=0)
    _rehearse(os.path.join(os.path.dirname(argv[1]), "tasks"), daemon)
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
            _answer(daemon, body, f"fork: {error.strerror}")
            continue
        if pid == 0:
            _become_runner(body, daemon, held)


def _become_runner(body: bytes, daemon: socket.socket, held: int) -> NoReturn:
    """Everything from here on is the runner's process; it does not return into the launcher's loop."""
    try:
        failpoint.reach("runner.forked")
        os.setsid()
        runner = _claimed(body, daemon)
        os.close(held)
        daemon.detach()
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.close(null)
        if runner is not None:
            failpoint.reach("runner.claimed")
            runner.run()
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _claimed(body: bytes, daemon: socket.socket) -> TaskRunner | None:
    head, options_json, spec_json = body.split(b"\n", 2)
    request: dict[str, Any] = json.loads(head)
    directory = AttemptDirectory(request["directory"], request["attempt"])
    try:
        spec = from_json(Spec, json.loads(spec_json))
        directory.create()
        _write_spec(directory, spec_json)
        runner = TaskRunner(request["id"], spec, directory, from_json(Options, json.loads(options_json)))
        runner.claim()
    except lock.AlreadyClaimed:
        return None
    except (OSError, TaskRunnerError) as error:
        _answer(daemon, body, str(error))
        return None
    return runner


def _write_spec(directory: AttemptDirectory, spec_json: bytes) -> None:
    fd = os.open(directory.spec, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, spec_json)
    finally:
        os.close(fd)


def _answer(daemon: socket.socket, body: bytes, error: str) -> None:
    """Say that a start did not happen. Short enough that answers of several processes do not mix."""
    head = json.loads(body.split(b"\n", 1)[0])
    answer = {"id": head["id"], "attempt": head["attempt"], "error": error[:500]}
    try:
        daemon.send(json.dumps(answer).encode() + b"\n", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
    except OSError:
        pass  # the daemon looks for starts that nothing came of


def _rehearse(tasks: str, daemon: socket.socket) -> None:
    """Run a few tasks right here, so that what happens once in a process has happened before any fork.

    Caches are filled, and the interpreter has rewritten the byte code of what runs often. Each runner would do that
    on pages of its own: a rehearsal saves it a third of its private memory, and the time to copy that.
    """
    directory = AttemptDirectory(f"{tasks}/.gone-rehearsal", 1)
    spec = b'{"actions": [{"machine": "process", "parameters": {"command": ["true"]}}]}'
    request = encode_request("rehearsal", 1, directory.path, spec, b"{}")
    for _ in range(REHEARSALS):
        runner = _claimed(request.split(b"\n", 1)[1], daemon)
        if runner is None:
            break  # no space left, say; runners work without
        runner.run()
        runner.close()
        os.unlink(directory.lock)
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
    remove_tree(directory.path)


if __name__ == "__main__":
    main(sys.argv)
