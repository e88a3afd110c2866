"""Following the file in which an engine keeps what a container writes, while it is written.

The engine never shortens that file. What has been read of it, and lies far enough behind, is given back to the disk by
a hole in it; a file beside it says how far, and how much of the two streams that was.
"""

from __future__ import annotations

import itertools
import json
import operator
import os
import time
from collections.abc import Callable, Iterable, Iterator

from task_runner.engines.filewatch import FileWatch, is_written, punch
from task_runner.errors import EngineFailed

#: reads the beginning of a log: pairs of stream and bytes, and how many bytes of the log they are
Parse = Callable[[bytes], tuple[Iterable[tuple[int, bytes]], int]]

#: bytes of the log that stay readable behind its reader, at least: whoever goes on later may have less than was read
KEEP = 1 << 26
_BLOCK = 1 << 18
#: seconds between two looks at a container whose log is silent. The file is closed when the container has ended: this
#: is for the case that nobody could be told of that
_LOOK = 5.0
#: seconds until the first look once the file has been closed; doubled each time
_NEAR = 0.02
#: seconds for which output is collected, where it comes all the time: its reader is not to wake for each line
_COLLECT = 0.01
_QUIET = 0.05
#: seconds for the last of the output to be written, after the engine has said that the container has ended
_REST = 10.0


class _Place:
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
            with open(self._note, encoding="ascii") as file:
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
        """So many bytes of the log are done with. Returns how many of its first bytes nobody needs any more, when that
        are enough to free."""
        self.offset += size
        if self._marks and self.offset - self._marks[-1][0] < self._keep:
            return None
        self._marks.append((self.offset, self._counts[1], self._counts[2]))
        if len(self._marks) <= 2:
            return None
        mark = self._marks.pop(0)
        # noted before it is freed: a crash in between must not leave a hole that nobody knows of
        with open(f"{self._note}.new", "w", encoding="ascii") as file:
            json.dump(mark, file)
        os.rename(f"{self._note}.new", self._note)
        return mark[0]


def follow(
    path: str, parse: Parse, skip: tuple[int, int], ended: Callable[[], bool], keep: int = KEEP
) -> Iterator[tuple[int, bytes]]:
    """All but the first ``skip`` bytes of the two streams, as they come, until the container has ``ended`` and
    everything is read. Raises what ``ended`` raises, and EngineFailed where something of that is gone."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return  # removed in this moment
    try:
        yield from _entries(fd, path, parse, _Place(path, skip, keep), ended)
    finally:
        os.close(fd)


def _entries(fd: int, path: str, parse: Parse, place: _Place, ended: Callable[[], bool]) -> Iterator[tuple[int, bytes]]:
    rest = b""
    for block in _blocks(fd, path, place.offset, ended):
        rest += block
        pairs, size = parse(rest)
        for stream, data in _joined(pairs):
            if unread := place.unread(stream, data):
                yield stream, unread
        rest = rest[size:]
        if (freed := place.advance(size)) is not None:
            _free(path, freed)
    if rest:
        yield 2, rest  # torn when the disk was full or the machine crashed: shown rather than left out


def _joined(pairs: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Neighbours of one stream as one."""
    for stream, neighbours in itertools.groupby(pairs, operator.itemgetter(0)):
        yield stream, b"".join(data for _, data in neighbours)


def _free(path: str, size: int) -> None:
    try:
        punch(path, size)
    except OSError:
        pass  # readable for us, and not writable: it takes its space until the container is removed


def _blocks(fd: int, path: str, offset: int, ended: Callable[[], bool]) -> Iterator[bytes]:
    """What a file holds from an offset on, to its last byte."""
    directory, name = os.path.split(path)
    os.lseek(fd, offset, os.SEEK_SET)
    with FileWatch(directory) as watch:
        delay = 0.0
        looked = woken = time.monotonic()
        while True:
            while block := os.read(fd, _BLOCK):
                yield block
            closings = [closed for event, closed in watch.wait(delay) if event == name]
            now = time.monotonic()
            if closings:
                delay = 0.0 if any(closings) else _LOOK
                if now - woken < _QUIET:
                    time.sleep(_COLLECT)
                woken = now
            elif now - looked >= delay:
                if ended():
                    break
                looked = now
                delay = min(max(2 * delay, _NEAR), _LOOK)
    # what the engine's helper has of it may not be written yet
    patience = time.monotonic() + _REST
    while is_written(fd) and time.monotonic() < patience:
        time.sleep(_COLLECT)
    while block := os.read(fd, _BLOCK):
        yield block
