"""Forks daemons for tests: `nursery.py FD`, where FD is a stream socket.

Most of what a daemon's start costs is its imports, and tests start hundreds. Here they are done once. Each request is
one line of JSON, {"env": {…}, "cwd": …, "log": …}, sent with two descriptors: the listening socket, and one end of a
socket pair, on which first the daemon's pid is said and, when it has ended, its wait status, each as a line.
"""

import array
import gc
import json
import os
import select
import signal
import socket
import sys

import uvicorn

from task_runner.api.star_app import create_app
from task_runner.lib import failpoint


def main() -> None:
    asks = socket.socket(fileno=int(sys.argv[1]))
    children: dict[int, tuple[int, socket.socket]] = {}
    poll = select.poll()
    poll.register(asks, select.POLLIN)
    gc.collect()
    gc.freeze()
    while True:
        for fd, _event in poll.poll():
            if fd == asks.fileno():
                _begin(asks, children, poll)
            else:
                _end(fd, children, poll)


def _begin(asks: socket.socket, children: dict[int, tuple[int, socket.socket]], poll: select.poll) -> None:
    data, ancillary, _flags, _address = asks.recvmsg(1 << 20, socket.CMSG_SPACE(8))
    if not data:
        for pid, _tell in children.values():
            os.kill(pid, signal.SIGKILL)  # our own child, not waited for
        sys.exit(0)
    fds = array.array("i")
    fds.frombytes(ancillary[0][2])
    listener, tell = fds[0], socket.socket(fileno=fds[1])
    pid = os.fork()
    if pid == 0:
        asks.close()
        for _pid, other in children.values():
            other.close()
        tell.close()
        _become(json.loads(data), listener)
    os.close(listener)
    pidfd = os.pidfd_open(pid)
    children[pidfd] = (pid, tell)
    poll.register(pidfd, select.POLLIN)
    tell.sendall(b"%d\n" % pid)


def _end(pidfd: int, children: dict[int, tuple[int, socket.socket]], poll: select.poll) -> None:
    pid, tell = children.pop(pidfd)
    poll.unregister(pidfd)
    os.close(pidfd)
    _pid, status = os.waitpid(pid, 0)
    try:
        tell.sendall(b"%d\n" % status)
    except OSError:
        pass  # nobody wants to know
    tell.close()


def _become(ask: dict, listener: int) -> None:
    """The child: all that it has of its own is what was asked for."""
    code = 1
    try:
        log = os.open(ask["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        os.environ.clear()
        os.environ.update(ask["env"])
        os.chdir(ask["cwd"])
        failpoint._ARMED.update(failpoint._read(os.environ.get("TASK_RUNNER_FAILPOINT", "")))  # read at import
        server = uvicorn.Server(uvicorn.Config(create_app(), access_log=False, timeout_graceful_shutdown=5))
        server.run(sockets=[socket.socket(fileno=listener)])
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
