"""The files that a task has made: what there is below its working directory, looked at while the task may change it.

A listing is in the order of names, byte by byte, a directory before what is in it, so that a place in it can be named
by a path and found again. It holds no more than a piece of each directory in memory, and no directory open.
"""

from __future__ import annotations

import errno
import heapq
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from task_runner.errors import Conflict, InvalidRequest, NotFound, TaskRunnerError
from task_runner.lib import beneath
from task_runner.lib.beneath import MAX_PATH, Kind, NotRegular, kind_of

#: names of one directory that are read and sorted at once
PIECE = 4096
#: directories in each other that a listing goes down into
MAX_DEPTH = 256

#: the parts of a path below the working directory, which is ()
Parts = tuple[bytes, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One name and what stands under it."""

    parts: Parts
    kind: Kind | None = None
    #: bytes of a regular file
    size: int | None = None
    #: seconds since 1970
    modified_at: float | None = None
    #: the permission bits
    mode: int | None = None
    #: where a link leads, as it says itself
    target: bytes | None = None
    #: why more cannot be said of it; of a directory, why a recursive listing does not show what is in it
    error: str | None = None


def parse_path(raw: bytes) -> Parts:
    """The parts of a path that a client names; empty ones and "." do not count. Raises InvalidRequest."""
    parts = tuple(part for part in raw.split(b"/") if part not in (b"", b"."))
    if b".." in parts:
        raise InvalidRequest.at("path", "'..' leads out of the working directory")
    if b"\0" in raw:
        raise InvalidRequest.at("path", "a path holds no NUL")
    if len(raw) > MAX_PATH:
        raise InvalidRequest.at("path", f"a path has at most {MAX_PATH} bytes, this one has {len(raw)}")
    if any(len(part) > 255 for part in parts):
        raise InvalidRequest.at("path", "a name has at most 255 bytes")
    return parts


def shown(parts: Sequence[bytes]) -> str:
    """A path in an error, whatever bytes it is made of."""
    return repr(b"/".join(parts).decode(errors="backslashreplace")[:200])


@contextmanager
def reaching(parts: Sequence[bytes]) -> Iterator[None]:
    """Tell in our own errors what the kernel says of a path."""
    try:
        yield
    except OSError as error:
        raise _refusal(parts, error) from None


def _refusal(parts: Sequence[bytes], error: OSError) -> TaskRunnerError:
    if isinstance(error, NotRegular):
        return Conflict(f"{shown(parts)} is a {error.kind.value}: only regular files are sent")
    match error.errno:
        case errno.ENOENT:
            return NotFound(f"the task has no file {shown(parts)}")
        case errno.ENOTDIR | errno.ELOOP:
            why = "a part of the path is not a directory (links are not followed)"
            return NotFound(f"the task has no file {shown(parts)}: {why}")
        case errno.ENAMETOOLONG:
            return InvalidRequest.at("path", "it is too long")
        case errno.EXDEV:
            return Conflict(f"{shown(parts)} lies on another file system, which is not entered")
        case _:
            return Conflict(f"{shown(parts)} cannot be read: {error.strerror}")


@contextmanager
def opened(work: str, parts: Sequence[bytes] = ()) -> Iterator[int]:
    """The working directory, open to look beneath. Raises NotFound where there is none yet."""
    with reaching(parts):
        root = beneath.open_root(work)
    try:
        yield root
    finally:
        os.close(root)


def look(work: str, parts: Parts) -> Entry:
    """What stands under this path now. Raises NotFound, InvalidRequest, Conflict."""
    with opened(work, parts) as root, reaching(parts):
        return look_below(root, parts)


def look_below(root: int, parts: Parts) -> Entry:
    """The same below an open directory. Raises OSError."""
    found, target = (os.fstat(root), None) if not parts else beneath.look(root, parts)
    kind = kind_of(found.st_mode)
    return Entry(
        parts=parts,
        kind=kind,
        size=found.st_size if kind is Kind.FILE else None,
        modified_at=found.st_mtime,
        mode=found.st_mode & 0o7777,
        target=target,
    )


def open_file(work: str, parts: Parts) -> io.FileIO:
    """A regular file to read. Raises NotFound, InvalidRequest, Conflict."""
    with opened(work, parts) as root, reaching(parts):
        if not parts:
            raise NotRegular(Kind.DIRECTORY)
        return io.FileIO(beneath.open_file(root, parts))


def page(work: str, parts: Parts, *, recursive: bool, after: Parts | None, limit: int) -> tuple[list[Entry], bool]:
    """Up to ``limit`` entries of a directory that come behind the path ``after``, and whether there are more.

    Of a task that has no directory yet there are none. Raises NotFound, InvalidRequest, Conflict.
    """
    if not parts and not os.path.lexists(work):
        return [], False
    entries: list[Entry] = []
    with opened(work, parts) as root:
        with reaching(parts):
            os.close(beneath.open_directory(root, parts))
        for entry in walk(root, parts, recursive=recursive, after=after):
            if len(entries) == limit:
                return entries, True
            entries.append(entry)
    return entries, False


def walk(root: int, parts: Parts = (), *, recursive: bool, after: Parts | None = None) -> Iterator[Entry]:
    """Every entry below a directory, in order. What vanishes meanwhile is not there."""
    levels = [_children(root, parts, _below(parts, after))]
    while levels:
        entry = next(levels[-1], None)
        if entry is None:
            levels.pop()
            continue
        enter = recursive and entry.kind is Kind.DIRECTORY
        if enter and (obstacle := _obstacle(root, entry.parts, len(levels))) is not None:
            entry, enter = replace(entry, error=obstacle), False
        if after is None or entry.parts > after:
            yield entry
        if enter:
            levels.append(_children(root, entry.parts, _below(entry.parts, after)))


def _obstacle(root: int, parts: Parts, depth: int) -> str | None:
    """Why a directory cannot be entered."""
    if depth >= MAX_DEPTH:
        return f"more than {MAX_DEPTH} directories deep"
    try:
        os.close(beneath.open_directory(root, parts))
    except OSError as error:
        return error.strerror
    return None


def _below(parts: Parts, after: Parts | None) -> bytes | None:
    """The first name of a directory that may hold something behind ``after``; None: any may."""
    if after is None or after[: len(parts)] != parts or len(after) == len(parts):
        return None
    return after[len(parts)]


def _children(root: int, parts: Parts, first: bytes | None) -> Iterator[Entry]:
    """What a directory holds, from the name ``first`` on."""
    last: bytes | None = None
    while names := _names(root, parts, first, last):
        for name in names:
            try:
                yield look_below(root, (*parts, name))
            except (FileNotFoundError, NotADirectoryError):
                continue  # it, or the directory, is not there any more
            except OSError as error:
                yield Entry(parts=(*parts, name), error=error.strerror)
        last = names[-1]
        if len(names) < PIECE:
            return


def _names(root: int, parts: Parts, first: bytes | None, last: bytes | None) -> list[bytes]:
    """The next names of a directory in order."""
    try:
        fd = beneath.open_directory(root, parts)
    except OSError:
        return []
    try:
        with os.scandir(fd) as found:
            names = (os.fsencode(each.name) for each in found)
            wanted = (n for n in names if (first is None or n >= first) and (last is None or n > last))
            return heapq.nsmallest(PIECE, wanted)
    except OSError:
        return []
    finally:
        os.close(fd)
