"""Programs among files that nobody vouches for: each is opened by no link of /proc (machines/target.py)."""

from __future__ import annotations

import errno
import os
import stat

from task_runner.errors import StartFailed
from task_runner.machines import target

#: how many interpreters of interpreters there may be, and bytes that a script's first line may have
_SCRIPTS, _FIRST_LINE = 4, 256


def opened(argv: list[str], path: str, proc: int) -> tuple[int, list[str]]:
    """The program, as a descriptor, and its arguments. A script is what its first line says: the kernel would look for
    the interpreter by name. ``proc``: a descriptor of this machine's /proc. Raises StartFailed, OSError."""
    name = _find(argv[0], path)
    words = argv
    for _ in range(_SCRIPTS):
        found = target.open_path(name)
        if (line := _script(name, proc)) is None:
            return found, words
        os.close(found)
        interpreter = line.split(None, 1)
        words = [*(each.strip() for each in interpreter), name, *words[1:]]
        name = words[0]
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), argv[0])


def _find(program: str, path: str) -> str:
    if "/" in program:
        return program
    for directory in path.split(os.pathsep):
        candidate = os.path.join(directory or ".", program)
        try:
            fd = target.open_path(candidate)
        except OSError:
            continue
        regular = stat.S_ISREG(os.fstat(fd).st_mode)
        os.close(fd)
        if regular and os.access(candidate, os.X_OK):
            return candidate
    raise StartFailed(f"{program}: no such program in {path}")


def _script(name: str, proc: int) -> str | None:
    """What follows #! in the first line; None for what has none, or cannot be read."""
    try:
        fd = target.open_regular(name, proc=proc)
    except OSError:
        return None
    try:
        head = os.read(fd, _FIRST_LINE)
    except OSError:
        return None
    finally:
        os.close(fd)
    line = head.partition(b"\n")[0]
    return os.fsdecode(line[2:]).strip() or None if line.startswith(b"#!") else None
