"""The process whose namespaces a sidecar joins: found, and held so that nothing of it is ever another's.

Whoever looks is root, and what is read of a target is the target's own: it may say anything.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass

from task_runner.errors import StartFailed
from task_runner.kernel import marks
from task_runner.machines import namespaces
from task_runner.machines.namespaces import Held

#: in the environment of what sidecars run: it has the target's environment, and is not the target
SIDECAR = "TASK_RUNNER_SIDECAR"
#: how many processes an error lists
_LISTED = 10

_libc = ctypes.CDLL(None, use_errno=True)
#: the same on every machine
_OPENAT2 = ctypes.c_long(437)
_RESOLVE_NO_MAGICLINKS, _RESOLVE_IN_ROOT = 0x02, 0x10


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """A process, held by descriptors."""

    pid: int
    held: Held
    root: int
    directory: int
    environment: Mapping[str, str]
    #: the capabilities that it may have at most
    bounding: int
    #: whose it is, by this machine's numbers: real, effective, saved, and for files
    uids: frozenset[int]


def hold(pid: int, kinds: list[str]) -> Target:
    """Raises StartFailed."""
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, OverflowError):
        raise StartFailed(f"sidecar: there is no process {pid}") from None
    try:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        target = Target(
            pid=pid,
            held=namespaces.hold(pid, kinds),
            root=os.open(f"/proc/{pid}/root", flags),
            directory=os.open(f"/proc/{pid}/cwd", flags),
            environment=environment(pid),
            bounding=int(_status(pid, b"CapBnd:")[0], 16),
            uids=frozenset(map(int, _status(pid, b"Uid:"))),
        )
        if not namespaces.lives(pidfd):
            raise StartFailed(f"sidecar: process {pid} has ended")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StartFailed(f"sidecar: process {pid}: {reason}") from None
    finally:
        os.close(pidfd)
    return target


def environment(pid: int) -> dict[str, str]:
    """Of a process. Raises OSError."""
    pairs = (each.partition("=") for each in os.fsdecode(marks.read(f"/proc/{pid}/environ")).split("\0"))
    return {name: value for name, equals, value in pairs if name and equals}


def _status(pid: int, name: bytes) -> list[bytes]:
    for line in marks.read(f"/proc/{pid}/status").splitlines():
        if line.startswith(name):
            return line.split()[1:]
    raise ValueError("what may be done with it is not known")


# -- by its mark


def marked(mark: str) -> int:
    """The main process of the one container whose processes carry a mark. Raises StartFailed."""
    tops = marks.first_of_each(list(marks.carriers(mark, SIDECAR)))
    if len(tops) == 1:
        return tops[0]
    if not tops:
        raise StartFailed(f"sidecar: no process carries the mark {mark}")
    listed = ", ".join(f"{pid} ({_name(pid)})" for pid in tops[:_LISTED])
    more = f" and {len(tops) - _LISTED} more" if len(tops) > _LISTED else ""
    raise StartFailed(f"sidecar: several processes carry the mark {mark}: {listed}{more}; name one by pid")


def _name(pid: int) -> str:
    try:
        return marks.read(f"/proc/{pid}/comm").decode(errors="replace").strip()
    except OSError:
        return "?"


# -- its files, and its users


def open_path(path: str, *, root: int | None = None) -> int:
    """A file, through no link of /proc that leads elsewhere; beneath ``root``, where that is given. Raises OSError."""
    resolve = _RESOLVE_NO_MAGICLINKS | (0 if root is None else _RESOLVE_IN_ROOT)
    how = (ctypes.c_uint64 * 3)(os.O_PATH | os.O_CLOEXEC, 0, resolve)
    where = ctypes.c_int(-100 if root is None else root)  # AT_FDCWD
    fd = int(_libc.syscall(_OPENAT2, where, os.fsencode(path), ctypes.byref(how), ctypes.c_size_t(24)))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return fd


def open_regular(path: str, *, root: int | None = None, proc: int | None = None) -> int:
    """A regular file, to read; nothing else is opened at all, for that alone does something to many a device.

    ``proc``: a descriptor of this machine's /proc, where it is seen no more. Raises OSError.
    """
    held = open_path(path, root=root)
    try:
        if not stat.S_ISREG(os.fstat(held).st_mode):
            raise OSError(errno.EINVAL, "is not a regular file", path)
        return os.open(f"{'' if proc is not None else '/proc/'}self/fd/{held}", os.O_RDONLY | os.O_CLOEXEC, dir_fd=proc)
    finally:
        os.close(held)


@dataclass(frozen=True, kw_only=True, slots=True)
class User:
    """Whom a command runs as, by the numbers of the target's own user namespace."""

    uid: int
    gid: int
    groups: list[int]
    #: what the target's /etc/passwd says of it; empty: nothing
    environment: Mapping[str, str]


def user(name: str, root: int) -> User:
    """A user by name or number, as the files beneath ``root`` have it. Raises StartFailed."""
    entry = next((line for line in _table(root, "/etc/passwd", 7) if name in (line[0], line[2])), None)
    if entry is None:
        if not name.isdecimal() or int(name) >= 2**32 - 1:
            raise StartFailed(f"sidecar.user: there is no user {name} in the target's /etc/passwd")
        return User(uid=int(name), gid=int(name), groups=[], environment={})
    login, uid, gid = entry[0], int(entry[2]), int(entry[3])
    groups = [int(line[2]) for line in _table(root, "/etc/group", 4) if login in line[3].split(",")]
    variables = {"USER": login, "LOGNAME": login, "HOME": entry[5] or "/", "SHELL": entry[6] or "/bin/sh"}
    return User(uid=uid, gid=gid, groups=sorted({gid, *groups}), environment=variables)


def _table(root: int, path: str, width: int) -> list[list[str]]:
    """Lines of fields, of which the third and, of users, the fourth are numbers; none where there is no such file."""
    try:
        fd = open_regular(path, root=root)
    except OSError:
        return []
    with open(fd, "rb") as file:
        text = file.read(marks.LONGEST).decode(errors="surrogateescape")
    lines = [line.split(":") for line in text.splitlines()]
    numbers = (2, 3) if width == 7 else (2,)
    return [line for line in lines if len(line) == width and all(_is_id(line[index]) for index in numbers)]


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) < 2**32 - 1
