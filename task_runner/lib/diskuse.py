"""What the files of a task take on the disk. A hole in a file takes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator

from task_runner.lib.taskdir import AttemptDirectory

#: bytes; what st_blocks counts in, whatever the file system's own blocks are
_BLOCK = 512


def outputs(attempt: AttemptDirectory) -> tuple[str, ...]:
    """The files that an attempt's output can be in."""
    return attempt.output, attempt.stdout, attempt.stderr


def of_file(path: str) -> int:
    """Bytes that a file takes; none where it is not there."""
    try:
        return os.stat(path, follow_symlinks=False).st_blocks * _BLOCK
    except OSError:
        return 0


def of_tree(path: str) -> int:
    """Bytes that a directory takes with everything below it; a file with two names counts once.

    No symbolic link is followed. What cannot be looked at is left out.
    """
    return of_file(path) + sum(_sizes(path))


def _sizes(path: str) -> Iterator[int]:
    todo, linked = [path], set[tuple[int, int]]()
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    found = entry.stat(follow_symlinks=False)
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(entry.path)
                    elif found.st_nlink > 1:
                        if (found.st_dev, found.st_ino) in linked:
                            continue
                        linked.add((found.st_dev, found.st_ino))
                    yield found.st_blocks * _BLOCK
        except OSError:
            continue
