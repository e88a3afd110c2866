"""Opening what a task may have put there: below one directory, along no link, onto no other file system.

A task can exchange a file or a directory for a link at any moment, so a path is never checked first and opened then.
The kernel does both in one step (openat2). Where it has no such call, or a sandbox forbids it, every part of the path
is opened by itself, relative to the one before: what is held open cannot be exchanged.

Nothing but a regular file is ever opened to be read. A FIFO opened and closed again would break the task that is
about to write to it, a device may do something when it is opened; so a file is first taken hold of without opening
it (O_PATH), looked at, and opened through that hold.
"""

from __future__ import annotations

import ctypes
import enum
import errno
import os
import stat
from collections.abc import Sequence

#: the longest path that can be asked for, in bytes: the kernel takes none that is longer
MAX_PATH = 4095

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long
_OPENAT2 = 437
#: where 437 is openat2 and nothing else; elsewhere the path is walked
_NUMBERED = {"x86_64", "aarch64", "i686", "armv7l", "armv8l", "ppc64le", "ppc64", "s390x", "riscv64", "loongarch64"}
_HAS_NUMBER = os.uname().machine in _NUMBERED
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x01, 0x02, 0x04, 0x08
#: no such call; forbidden by a seccomp filter (two fashions); a rename came in between, ask again
_WALK_INSTEAD = {errno.ENOSYS, errno.EPERM, errno.EACCES, errno.EAGAIN}


class Kind(enum.Enum):
    """What stands under a name."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "link"
    FIFO = "fifo"
    SOCKET = "socket"
    DEVICE = "device"


class NotRegular(OSError):
    """It is there, and it is no regular file."""

    def __init__(self, kind: Kind) -> None:
        super().__init__(errno.EINVAL, f"not a regular file but a {kind.value}")
        self.kind = kind


class _OpenHow(ctypes.Structure):
    _fields_ = [("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64)]


def kind_of(mode: int) -> Kind:
    """The kind that a mode says."""
    tests = {
        stat.S_ISREG: Kind.FILE,
        stat.S_ISDIR: Kind.DIRECTORY,
        stat.S_ISLNK: Kind.LINK,
        stat.S_ISFIFO: Kind.FIFO,
        stat.S_ISSOCK: Kind.SOCKET,
    }
    return next((kind for test, kind in tests.items() if test(mode)), Kind.DEVICE)


def take_hold(root: int, parts: Sequence[bytes], *, directory: bool = False) -> int:
    """A descriptor (O_PATH) of what stands below the directory ``root``, which may itself be a link, opened by nobody.

    Raises FileNotFoundError, NotADirectoryError (also for a link on the way), OSError with EXDEV for what lies on
    another file system, ENAMETOOLONG; ValueError for a path that has no parts, or parts that are no names.
    """
    if not parts or any(part in (b"", b".", b"..") or b"/" in part or b"\0" in part for part in parts):
        raise ValueError(parts)
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_DIRECTORY if directory else 0)
    path = b"/".join(parts)
    if len(path) > MAX_PATH:
        raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    try:
        return _openat2(root, path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP:  # a link on the way: what the walk says of it, too
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
        if error.errno not in _WALK_INSTEAD:
            raise
    return _walk(root, parts, flags)


def _openat2(root: int, path: bytes, flags: int) -> int:
    if not _HAS_NUMBER:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    how = _OpenHow(flags, 0, _BENEATH | _NO_SYMLINKS | _NO_MAGICLINKS | _NO_XDEV)
    while True:
        fd: int = _libc.syscall(
            ctypes.c_long(_OPENAT2),
            ctypes.c_int(root),
            ctypes.c_char_p(path),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        )
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def _walk(root: int, parts: Sequence[bytes], flags: int) -> int:
    """The same, part by part."""
    device = os.fstat(root).st_dev
    held = root
    for part in parts[:-1]:
        try:
            below = os.open(part, os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=held)
        finally:
            if held != root:
                os.close(held)
        held = below
        _stay_on(device, held)
    try:
        last = os.open(parts[-1], flags, dir_fd=held)
    finally:
        if held != root:
            os.close(held)
    _stay_on(device, last)
    return last


def _stay_on(device: int, fd: int) -> None:
    """Only directories are asked: on an overlay a file may well say it is of another device."""
    found = os.fstat(fd)
    if stat.S_ISDIR(found.st_mode) and found.st_dev != device:
        os.close(fd)
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def open_root(path: str) -> int:
    """The directory to look beneath, if it is a directory and no link. Raises OSError."""
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def open_directory(root: int, parts: Sequence[bytes]) -> int:
    """A directory below ``root``, or ``root`` itself, open to be listed. Raises OSError."""
    if not parts:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root)
    held = take_hold(root, parts, directory=True)
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=held)
    finally:
        os.close(held)


def open_file(root: int, parts: Sequence[bytes]) -> int:
    """A regular file below ``root``, open to be read. Raises NotRegular, OSError."""
    held = take_hold(root, parts)
    try:
        kind = kind_of(os.fstat(held).st_mode)
        if kind is not Kind.FILE:
            raise NotRegular(kind)
        # O_NONBLOCK: who has a lease on the file could keep us waiting for 45 seconds
        return os.open(f"/proc/self/fd/{held}", os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    finally:
        os.close(held)


def look(root: int, parts: Sequence[bytes]) -> tuple[os.stat_result, bytes | None]:
    """What stands below ``root``, and where it leads if it is a link. Raises OSError."""
    held = take_hold(root, parts)
    try:
        found = os.fstat(held)
        return found, os.readlink(b"", dir_fd=held) if stat.S_ISLNK(found.st_mode) else None
    finally:
        os.close(held)
