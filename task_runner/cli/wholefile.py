"""Files that appear when they are whole, or not at all."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

from task_runner.errors import Conflict, InvalidRequest


def place(target: str | None, name: str, force: bool) -> str:
    """The path of a file that is to be made: ``target``, or ``name`` in it. Raises Conflict where it is there.

    Only a regular file is replaced: a file in the place of /dev/null or /dev/stdout breaks what else uses them.
    """
    file = target or name
    if os.path.isdir(file):
        file = os.path.join(file, name)
    found = os.lstat(file) if os.path.lexists(file) else None
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise InvalidRequest(f"{file} is not a regular file, and is not replaced; `-o -` writes to standard output")
    if found is not None and not force:
        raise Conflict(f"{file} is there already; --force replaces it")
    return file


@contextmanager
def whole(path: str, mode: int = 0o666) -> Iterator[BinaryIO]:
    """A temporary file beside it, which takes its name at the end, and its mode, less the umask.

    Raises InvalidRequest where it cannot be written.
    """
    try:
        fd, temporary = tempfile.mkstemp(prefix=".task-runner-", dir=os.path.dirname(path) or ".")
        try:
            with os.fdopen(fd, "w+b") as out:
                yield out
                os.fchmod(out.fileno(), mode & ~_umask())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be written: {error.strerror}") from None


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
