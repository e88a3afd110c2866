"""A task's working directory, brought to where a command cannot see it: sent by who can read it, made by who may there.

For each entry comes a line of JSON and, for a file, as many bytes as that says. Only directories, regular files and
symbolic links are sent.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator
from typing import BinaryIO

from task_runner.errors import StartFailed

_PIECE = 1 << 20
#: where a directory can be made, mostly
_PLACES = ("/tmp", "/var/tmp", "/dev/shm", "/run", "/")  # noqa: S108
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: seconds that a removal may take
_PATIENCE = 30.0


def is_empty(path: str) -> bool:
    """Whether there is nothing to send. Raises OSError."""
    with os.scandir(path) as entries:
        return next(entries, None) is None


def send(path: str, prefix: str, to: BinaryIO) -> None:
    """Send what stands in a directory; on the other side it stands in ``prefix``. Raises OSError."""
    _line(to, {"path": prefix, "kind": "directory", "mode": 0o700})
    for name, directory, about in _walk(path):
        entry = {"path": f"{prefix}/{name}", "mode": stat.S_IMODE(about.st_mode)}
        if stat.S_ISDIR(about.st_mode):
            _line(to, {**entry, "kind": "directory"})
        elif stat.S_ISLNK(about.st_mode):
            target = os.readlink(os.path.basename(name), dir_fd=directory)
            _line(to, {**entry, "kind": "link", "target": target})
        elif stat.S_ISREG(about.st_mode):
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with open(os.open(os.path.basename(name), flags, dir_fd=directory), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                _line(to, {**entry, "kind": "file", "size": size})
                _copy(file, to, size)


def send_end(to: BinaryIO) -> None:
    """That was all."""
    _line(to, {})


def _walk(path: str) -> Iterator[tuple[str, int, os.stat_result]]:
    """Every entry, directories before what is in them, with a descriptor of the directory it stands in."""
    for top, directories, files, fd in os.fwalk(path):
        for name in (*directories, *files):
            relative = os.path.relpath(os.path.join(top, name), path)
            yield relative, fd, os.stat(name, dir_fd=fd, follow_symlinks=False)


def _line(to: BinaryIO, entry: dict[str, object]) -> None:
    to.write(json.dumps(entry).encode() + b"\n")


def _copy(source: BinaryIO, to: BinaryIO, size: int) -> None:
    """Exactly so many bytes. Raises EOFError."""
    while size:
        piece = source.read(min(size, _PIECE))
        if not piece:
            raise EOFError("it has become shorter")
        to.write(piece)
        size -= len(piece)


def receive(name: str, source: BinaryIO) -> str:
    """Make a directory called so where we may, with all that comes; returns its path. Raises StartFailed, OSError."""
    place = _make(name)
    try:
        os.chdir(place)
        while _receive_one(source):
            pass
    except BaseException:
        remove(place)
        raise
    return place


def _receive_one(source: BinaryIO) -> bool:
    """Make what comes next; False where that was all. Raises OSError, ValueError, EOFError."""
    entry = json.loads(source.readline())
    path = entry.get("path")
    if path is None:
        return False
    if entry["kind"] == "directory":
        os.mkdir(path, 0o700 | entry["mode"])
    elif entry["kind"] == "link":
        os.symlink(entry["target"], path)
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(path, flags, 0o600), "wb") as file:
            _copy(source, file, entry["size"])
            os.fchmod(file.fileno(), entry["mode"] | 0o400)
    return True


def _make(name: str) -> str:
    for place in _PLACES:
        path = os.path.join(place, name)
        try:
            os.mkdir(path, 0o700)
        except OSError:
            continue
        return path
    raise StartFailed(f"files: no directory can be made in the target, neither in {', '.join(_PLACES)}")


def remove(path: str) -> None:
    """Remove such a directory, as far as that can be done: who else is there may do anything to it meanwhile."""
    try:
        top = os.open(path, _DIRECTORY)
    except OSError:
        return
    try:
        _empty(top)
        os.rmdir(path)
    except OSError:
        pass
    finally:
        os.close(top)


def _empty(top: int) -> None:
    """Directories come up, one level at a time: however deep they are, that takes neither stack nor descriptors.
    Raises OSError."""
    until, changed = time.monotonic() + _PATIENCE, True
    while changed:
        changed = False
        for name in os.listdir(top):
            if time.monotonic() > until:
                return
            changed = _take_away(name, top, top) or changed


def _take_away(name: str, directory: int, top: int) -> bool:
    """Remove what has this name, or bring nearer that it can be; False where nothing can be done."""
    try:
        os.unlink(name, dir_fd=directory)
        return True
    except IsADirectoryError:
        pass
    except OSError:
        return False
    try:
        os.chmod(name, 0o700, dir_fd=directory)
        if directory != top:
            os.rename(name, os.urandom(8).hex(), src_dir_fd=directory, dst_dir_fd=top)
            return True
        inside = os.open(name, _DIRECTORY, dir_fd=top)
    except OSError:
        return False
    try:
        changed = [_take_away(each, inside, top) for each in os.listdir(inside)]
    finally:
        os.close(inside)
    try:
        os.rmdir(name, dir_fd=top)
    except OSError:
        return any(changed)
    return True
