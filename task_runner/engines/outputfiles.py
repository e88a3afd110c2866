"""Following the two files into which the output of a container is written, while it is written.

What has been read, and lies far enough behind, is given back to the disk: the files keep their length, so that an
offset means the same byte for ever, and a file beside each says how much of it is gone.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator

from task_runner.engines.filewatch import FileWatch, is_written, punch
from task_runner.errors import EngineFailed

#: of the two files, in the order of the streams
NAMES = ("stdout", "stderr")
#: bytes that stay readable behind the reader, at least: whoever goes on later may have less than was read
KEEP = 1 << 26
_BLOCK = 1 << 18
#: seconds between two looks at a container that is silent. Its files are closed when it has ended: this is for the
#: case that nobody could be told of that
_LOOK = 2.0
#: seconds until the first look once a file has been closed; doubled each time
_NEAR = 0.02
#: seconds in which output is collected, where it comes all the time: its reader is not to wake for each line
_COLLECT = 0.01
_QUIET = 0.05
#: seconds for the last of the output to be written, after the engine has said that the container has ended
_REST = 10.0


class _Tail:
    """One file, from where its reader is on."""

    def __init__(self, directory: str, stream: int, skip: int, keep: int) -> None:
        self.stream = stream
        self.name = NAMES[stream - 1]
        self._path = f"{directory}/{self.name}"
        self._keep = keep
        self._offset = skip
        self._freed = self._noted()
        if skip < self._freed:
            raise EngineFailed(f"{self._freed - skip} bytes of the container's {self.name} are not there any more")
        try:
            self._fd = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise EngineFailed(f"cannot read the container's output in {self._path}: {error.strerror}") from error

    def _noted(self) -> int:
        try:
            with open(f"{self._path}.freed", encoding="ascii") as file:
                return int(file.read())
        except FileNotFoundError:
            return 0

    def close(self) -> None:
        os.close(self._fd)

    def is_written(self) -> bool:
        return is_written(self._fd)

    def read(self) -> bytes:
        return os.pread(self._fd, _BLOCK, self._offset)

    def advance(self, size: int) -> None:
        """So many bytes have been taken."""
        self._offset += size
        if self._offset - self._freed < 2 * self._keep:
            return
        self._freed = self._offset - self._keep
        # noted before it is so: a crash in between must not leave a hole that nobody knows of
        with open(f"{self._path}.new", "w", encoding="ascii") as file:
            file.write(str(self._freed))
        os.rename(f"{self._path}.new", f"{self._path}.freed")
        punch(self._path, self._freed)


def follow(directory: str, skip: tuple[int, int], ended: Callable[[], bool], keep: int) -> Iterator[tuple[int, bytes]]:
    """All but the first ``skip`` bytes of the two streams, as they come, until the container has ``ended`` and all is
    read. Raises what ``ended`` raises, and EngineFailed where something of that is gone."""
    tails: list[_Tail] = []
    try:
        tails.extend(_Tail(directory, stream, skip[stream - 1], keep) for stream in (1, 2))
        with FileWatch(directory) as watch:
            for ready in _until_ended(tails, ended, watch):
                yield from _take(ready)
        # what the engine's helper has of it may not be written yet
        patience = time.monotonic() + _REST
        while any(tail.is_written() for tail in tails) and time.monotonic() < patience:
            time.sleep(_COLLECT)
        yield from _take(tails)
    finally:
        for tail in tails:
            tail.close()


def _take(tails: list[_Tail]) -> Iterator[tuple[int, bytes]]:
    """What there is, by turns."""
    more = True
    while more:
        more = False
        for tail in tails:
            if block := tail.read():
                yield tail.stream, block
                tail.advance(len(block))
                more = True


def _until_ended(tails: list[_Tail], ended: Callable[[], bool], watch: FileWatch) -> Iterator[list[_Tail]]:
    """Those that may have something new, in the order in which they were written."""
    yield tails
    delay = 0.0
    looked = woken = time.monotonic()
    while True:
        events = watch.wait(delay)
        now = time.monotonic()
        if not events:
            yield tails
            if now - looked >= delay:
                if ended():
                    return
                looked = now
                delay = min(max(2 * delay, _NEAR), _LOOK)
            continue
        delay = 0.0 if any(closed for _, closed in events) else _LOOK
        if now - woken < _QUIET:
            time.sleep(_COLLECT)
        woken = now
        names = list(dict.fromkeys(name for name, _ in events))
        yield [tail for name in names for tail in tails if tail.name == name]
