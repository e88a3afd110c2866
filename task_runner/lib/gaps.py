"""The middle of an output longer than allowed: which bytes it is, how they are freed, how a reader sees that.

Rule 1: a byte keeps its offset for ever. The file goes on growing; what is freed becomes a hole in it.
Rule 2: outputs are written by O_APPEND alone, which leaves no holes. So a hole is what has been freed, and the file
        itself says so at once, before any status does, and also when the runner has died before it could tell.
        (Some file systems store a block of zeros as a hole. So holes count only where the limit lets them be.)
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence

_KEEP_SIZE, _PUNCH_HOLE = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)
# the C library of a 32-bit system has two: only this one takes long offsets
_fallocate = getattr(_libc, "fallocate64", None) or _libc.fallocate
_fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
#: what fallocate says where holes cannot be made
IMPOSSIBLE = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM, errno.ETXTBSY)


def middle(size: int, limit: int, block: int) -> tuple[int, int]:
    """Of so many bytes, the first not to be kept, and the first after them to be kept. Equal: all are kept.

    The head is half of the limit, the tail the rest. Only whole blocks can be freed, so up to two blocks more are
    kept than asked for, and never less.
    """
    head = limit // 2
    start = -(-head // block) * block
    end = (size - (limit - head)) // block * block
    return start, max(start, end)


def block_of(seen: os.stat_result) -> int:
    """The unit in which a file's bytes can be freed."""
    return max(4096, seen.st_blksize)


def punch(fd: int, start: int, end: int) -> None:
    """Free the bytes from start to before end; they read as zeros then. Raises OSError."""
    if _fallocate(fd, _PUNCH_HOLE | _KEEP_SIZE, start, end - start) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def find(fd: int, offset: int, limit: int | None, told: Sequence[tuple[int, int]] = ()) -> tuple[int, int] | None:
    """The first gap that does not end before ``offset``, from its first byte not below that to the one behind it.

    To be asked after the bytes have been read: what is not in a gap then has not been in one before.
    ``told``: gaps by a status, for a file system that frees blocks and does not show it. Raises OSError.
    """
    if limit is None:
        return None
    seen = os.fstat(fd)
    start, end = middle(seen.st_size, limit, block_of(seen))
    found = [(max(offset, first), last) for first, last in told if last > offset]
    if max(offset, start) < end and (hole := _hole(fd, max(offset, start), end)) is not None:
        found.append(hole)
    if not found:
        return None
    first = min(each[0] for each in found)
    return first, max(last for begin, last in found if begin == first)


def _hole(fd: int, start: int, end: int) -> tuple[int, int] | None:
    """The first hole between two offsets."""
    try:
        first = os.lseek(fd, start, os.SEEK_HOLE)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.EINVAL):
            return None  # nothing is there, or this file system knows no holes
        raise
    if first >= end:
        return None
    try:
        return first, min(end, os.lseek(fd, first, os.SEEK_DATA))
    except OSError as error:
        if error.errno == errno.ENXIO:
            return first, end  # no data behind it
        raise
