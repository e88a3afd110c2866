"""The namespaces of another process: held, and then joined.

Rule 1: they are held by descriptors, opened while a pidfd says that the process lives. From then on no pid is believed.
Rule 2: who joins is a process of one thread that has imported all it needs: afterwards files have other names.
Rule 3: the pid namespace is for children. Who joins it stays outside, and can wait for what it starts there.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import select
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from task_runner.errors import StartFailed

_libc = ctypes.CDLL(None, use_errno=True)
_NS_GET_USERNS, _CLONE_NEWCGROUP = 0xB701, 0x02000000
#: by the name that /proc/PID/ns has; mnt last, for it changes what paths mean
KINDS = ("ipc", "uts", "net", "mnt")


@dataclass(frozen=True, kw_only=True, slots=True)
class Held:
    """Descriptors of namespaces that are not our own already."""

    #: to be joined before all others by who has no privileges outside
    first: int | None
    pid: int | None
    others: Mapping[str, int]
    #: to be joined after them, for it takes all privileges over them away
    user: int | None

    def begin(self) -> None:
        """What is started from now on is in the pid namespace. Raises StartFailed."""
        join(self.first, "user")
        join(self.pid, "pid")

    def enter(self) -> None:
        """Join all others, for good. Raises StartFailed."""
        for kind in KINDS:
            join(self.others.get(kind), kind)
        join(self.user, "user")


def hold(pid: int, kinds: Iterable[str]) -> Held:
    """The namespaces of these kinds ("pid" and those in KINDS), and its user namespace. Raises OSError."""
    fds = {kind: fd for kind in kinds if (fd := _open(pid, kind)) is not None}
    user, first = _open(pid, "user"), None
    if user is not None and os.geteuid() != 0:
        # bubblewrap makes two, one in the other, and its mounts belong to the outer one
        first = fcntl.ioctl(fds["mnt"], _NS_GET_USERNS)
        os.set_inheritable(first, False)
        if _same(first, user):
            user = None
    return Held(first=first, pid=fds.pop("pid", None), others=fds, user=user)


def _open(pid: int, kind: str) -> int | None:
    """None where it is ours as well."""
    fd = os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    own = os.open(f"/proc/self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
    same = _same(fd, own)
    os.close(own)
    if same:
        os.close(fd)
        return None
    return fd


def _same(one: int, other: int) -> bool:
    return os.path.samestat(os.fstat(one), os.fstat(other))


def join(fd: int | None, kind: str) -> None:
    """Join a namespace, if one is given. Raises StartFailed."""
    if fd is not None and _libc.setns(fd, 0) != 0:
        raise StartFailed(f"cannot join the {kind} namespace: {os.strerror(ctypes.get_errno())}")


def own_cgroups() -> None:
    """See no control groups but those below one's own, where the kernel lets us."""
    _libc.unshare(_CLONE_NEWCGROUP)


def lives(pidfd: int) -> bool:
    """Whether a process has not ended."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)
