"""The doorbell: how a runner tells the daemon to look at its task, best effort.

A FIFO in the state directory; a ring is one line with the task's id, short enough to be written at once
or not at all. The design called for a datagram socket: the kernel queues 10 datagrams there by default
(net.unix.max_dgram_qlen) where a pipe holds 3,800 rings, one read empties it, and opening a FIFO that nobody
reads fails at once, which tells the runner that no daemon is there.
"""

from __future__ import annotations

import errno
import os
import stat

from task_runner.lib.taskdir import set_aside


def ring(path: str, task_id: str) -> bool:
    """Ring for a task; False where nobody listens or the bell is choked."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        os.write(fd, f"{task_id}\n".encode())
    except OSError:
        return False
    finally:
        os.close(fd)
    return True


class Doorbell:
    """The daemon's end."""

    def __init__(self, path: str) -> None:
        if os.path.lexists(path) and not stat.S_ISFIFO(os.lstat(path).st_mode):
            set_aside(path)
        try:
            os.mkfifo(path, 0o600)
        except FileExistsError:
            pass
        # read and write: a FIFO with a writer never reports end of file
        self.fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._rest = b""

    def answer(self) -> list[str]:
        """The ids that were rung since the last call; never blocks."""
        try:
            data = self._rest + os.read(self.fd, 1 << 16)
        except BlockingIOError:
            return []
        except OSError as error:
            if error.errno == errno.EINTR:
                return []
            raise
        *lines, self._rest = data.split(b"\n")
        return [line.decode("ascii", "replace") for line in lines]

    def close(self) -> None:
        os.close(self.fd)
