"""What a container wrote, out of the file in which an engine of the CRI keeps it.

    2026-11-21T16:00:05.483288736Z stdout F a whole line, without its newline
    2026-11-21T16:00:05.490646332Z stdout P a part of a line: no newline follows it

The engine never shortens that file. What has been read of it, and lies far enough behind, is given back to the disk
by a hole in it; a file beside it says how far, and how much of the two streams that was.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator

from task_runner.engines.filewatch import Event, FileWatch, is_written, punch
from task_runner.errors import EngineFailed

#: reads the beginning of a log: pairs of stream and bytes, and how many bytes of the log they are
Parse = Callable[[bytes], tuple[Iterable[tuple[int, bytes]], int]]

_STREAMS = {b"stdout": 1, b"stderr": 2}
_BLOCK = 1 << 18
#: bytes of the log that stay readable behind its reader, at least: whoever goes on later may have less than was read
KEEP = 1 << 26
#: seconds between two looks at a container whose log is silent. The file is closed when the container has ended: this
#: is for an engine that is killed at that very moment
_LOOK = 2.0
#: seconds until the first look once the file has been closed; doubled each time
_NEAR = 0.02
#: seconds for which lines are collected: a container that writes all the time must not wake its reader for each
_COLLECT = 0.01
#: seconds for the engine to write the rest of what it has read
_REST = 10.0


def whole_lines(data: bytes) -> tuple[Iterator[tuple[int, bytes]], int]:
    """What the whole lines at the beginning say, and how many bytes they are."""
    end = data.rfind(b"\n") + 1
    return entries(data[:end]), end


def entries(lines: bytes) -> Iterator[tuple[int, bytes]]:
    """What whole lines of a log say, as pairs of stream and bytes; neighbours of one stream are one."""
    stream = 0
    parts: list[bytes] = []
    for line in lines.split(b"\n")[:-1]:
        number, content = _entry(line)
        if number != stream and parts:
            yield stream, b"".join(parts)
            parts = []
        stream = number
        parts.append(content)
    if parts:
        yield stream, b"".join(parts)


def _entry(line: bytes) -> tuple[int, bytes]:
    fields = line.split(b" ", 3)
    if len(fields) < 4 or fields[1] not in _STREAMS:
        return 2, line + b"\n"  # torn when the disk was full or the machine crashed: shown rather than left out
    partial = fields[2].split(b":")[0] == b"P"
    return _STREAMS[fields[1]], fields[3] if partial else fields[3] + b"\n"


class Place:
    """How far a log has been read."""

    def __init__(self, path: str, skip: tuple[int, int], keep: int) -> None:
        """Where somebody goes on who has that much of the two streams. Raises EngineFailed where that is gone."""
        self._note = f"{path}.read"
        self._keep = keep
        self.offset, out, err = self._noted()
        self._counts = {1: out, 2: err}
        self._skip = {1: skip[0] - out, 2: skip[1] - err}
        if missing := -min(self._skip[1], 0) - min(self._skip[2], 0):
            raise EngineFailed(f"{missing} bytes of the container's output are not there any more")
        #: the last places, the oldest first
        self._marks: list[tuple[int, int, int]] = []

    def _noted(self) -> tuple[int, int, int]:
        try:
            with open(self._note, encoding="utf-8") as file:
                offset, out, err = json.load(file)
        except FileNotFoundError:
            return 0, 0, 0
        return offset, out, err

    def unread(self, stream: int, data: bytes) -> bytes:
        """What of the next bytes of a stream is to be handed out."""
        self._counts[stream] += len(data)
        skipped = min(self._skip[stream], len(data))
        self._skip[stream] -= skipped
        return data[skipped:]

    def advance(self, size: int) -> int | None:
        """So many bytes of the log are done with. Returns how many of the first of it nobody needs any more."""
        self.offset += size
        if self._marks and self.offset - self._marks[-1][0] < self._keep:
            return None
        self._marks.append((self.offset, self._counts[1], self._counts[2]))
        if len(self._marks) <= 2:
            return None
        mark = self._marks.pop(0)
        # noted before it is freed: a crash in between must not leave a hole that nobody knows of
        with open(f"{self._note}.new", "w", encoding="utf-8") as file:
            json.dump(mark, file)
        os.rename(f"{self._note}.new", self._note)
        return mark[0]


def follow(
    path: str, skip: tuple[int, int], ended: Callable[[], bool], keep: int, parse: Parse = whole_lines
) -> Iterator[tuple[int, bytes]]:
    """All but the first ``skip`` bytes of the two streams, as they come, until the container has ``ended`` and
    everything is read. Raises what ``ended`` raises. Needs the directory of the log, and not yet the log."""
    place = Place(path, skip, keep)
    with FileWatch(path) as watch:
        over = False
        while (fd := _open(path)) is None:
            if over:
                return
            over = ended()  # looked at once more then: it may have been made before that
            if not over:
                watch.wait(_LOOK)
        try:
            rest = b""
            for block in _blocks(fd, place.offset, ended, watch):
                rest += block
                pairs, size = parse(rest)
                for stream, data in pairs:
                    if unread := place.unread(stream, data):
                        yield stream, unread
                rest = rest[size:]
                if (freed := place.advance(size)) is not None:
                    punch(path, freed)
            if rest:
                yield 2, rest  # as torn as any other
        finally:
            os.close(fd)


def _open(path: str) -> int | None:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None


def _blocks(fd: int, offset: int, ended: Callable[[], bool], watch: FileWatch) -> Iterator[bytes]:
    """What a file holds from an offset on, to its last byte."""
    os.lseek(fd, offset, os.SEEK_SET)
    delay = 0.0
    looked = time.monotonic()
    while True:
        while block := os.read(fd, _BLOCK):
            yield block
        event = watch.wait(delay)
        if event is Event.CHANGED:
            delay = _LOOK
            time.sleep(_COLLECT)
        elif event is Event.CLOSED:
            delay = 0.0
        elif time.monotonic() - looked >= delay:
            if ended():
                break
            looked = time.monotonic()
            delay = min(max(2 * delay, _NEAR), _LOOK)
    # The engine says that the container has ended before it has written the last of what it has read of it
    patience = time.monotonic() + _REST
    while is_written(fd) and time.monotonic() < patience:
        time.sleep(_COLLECT)
    while block := os.read(fd, _BLOCK):
        yield block
