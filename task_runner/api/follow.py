"""Following an output file: told by the kernel (inotify) when it grows, by the hub when the task is over.

The bytes a command writes go to the file and to nobody else, so a follower that is slow, or gone, costs the
command nothing. Where the middle of the output is not kept it may vanish under a slow reader: so after each read
the file is asked whether what was read was still there.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

from inotify_simple import INotify, flags

from task_runner.api.streams import wait_unless
from task_runner.errors import Damaged, TaskRunnerError
from task_runner.lib import gaps
from task_runner.lib.taskdir import open_regular
from task_runner.model.status import Gap
from task_runner.service.task import Task
from task_runner.service.tasks import TaskService

log = logging.getLogger(__name__)

CHUNK = 64 * 1024
#: seconds between looks where the kernel does not tell (no inotify instances or watches left)
FALLBACK = 0.2
#: seconds of silence after which a follower is told so
KEEP_ALIVE = 15.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One stream of one attempt's output."""

    attempt: int
    path: str
    #: no more of it is kept
    limit: int | None = None
    #: the gaps in it that its runner told of
    told: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Piece:
    """Bytes as they were written."""

    offset: int
    data: bytes

    @property
    def end(self) -> int:
        return self.offset + len(self.data)


class GrowthWatch:
    """One inotify descriptor for all followers of this daemon."""

    def __init__(self) -> None:
        self._followers: dict[int, set[asyncio.Event]] = {}
        self._inotify: INotify | None = None

    def open(self) -> None:
        """Begin to listen, in the running loop."""
        try:
            self._inotify = INotify(nonblocking=True)
        except OSError as error:
            log.warning("no inotify (%s): followers look %d times a second", error, 1 / FALLBACK)
            return
        asyncio.get_running_loop().add_reader(self._inotify.fileno(), self._read)

    def close(self) -> None:
        if self._inotify is not None:
            asyncio.get_running_loop().remove_reader(self._inotify.fileno())
            self._inotify.close()

    def _read(self) -> None:
        assert self._inotify is not None
        for event in self._inotify.read(timeout=0):
            for wake in self._followers.get(event.wd, ()):
                wake.set()

    def add(self, path: str, wake: asyncio.Event) -> int | None:
        """Set ``wake`` whenever this file grows; None where that cannot be."""
        if self._inotify is None:
            return None
        try:
            watch: int = self._inotify.add_watch(path, flags.MODIFY)
        except OSError:
            return None
        self._followers.setdefault(watch, set()).add(wake)
        return watch

    def remove(self, watch: int, wake: asyncio.Event) -> None:
        followers = self._followers.get(watch, set())
        followers.discard(wake)
        if not followers and self._inotify is not None:
            self._followers.pop(watch, None)
            try:
                self._inotify.rm_watch(watch)
            except OSError:
                pass  # the file has been removed, and its watch with it


class Follower:
    """Reads a stream of output from an offset, to the end of the task if asked."""

    def __init__(
        self, service: TaskService, growth: GrowthWatch, closing: asyncio.Event, *, keep_alive: float = KEEP_ALIVE
    ) -> None:
        self._service = service
        self._growth = growth
        self._closing = closing
        self._keep_alive = keep_alive

    async def read(
        self, task: Task, source: Source, offset: int, *, follow: bool
    ) -> AsyncIterator[Piece | Gap | None]:
        """Yield what is there in order: every byte once, or the gap it is in. None: nothing has come for a while."""
        wake = asyncio.Event()
        watch: int | None = None
        fd = -1
        silent = asyncio.get_running_loop().time()
        try:
            with self._service.hub.subscribe(task.id, wake):
                while True:
                    wake.clear()
                    # before the read: what is over by now has written all it will
                    over = not follow or self._is_over(task.id, source.attempt)
                    fd = fd if fd >= 0 else _open(source.path)
                    if fd >= 0 and follow and watch is None:
                        watch = self._growth.add(source.path, wake)
                    while fd >= 0 and (found := await _read(fd, offset, source)):
                        yield found
                        offset = found.end if isinstance(found, Piece) else found.offset + found.bytes
                        silent = asyncio.get_running_loop().time()
                    if over or self._closing.is_set():
                        return
                    left = silent + self._keep_alive - asyncio.get_running_loop().time()
                    if left <= 0:
                        yield None
                        silent, left = asyncio.get_running_loop().time(), self._keep_alive
                    most = 5.0 if watch is not None or fd < 0 else FALLBACK
                    await wait_unless(self._closing, wake.wait(), min(left, most))
        finally:
            if watch is not None:
                self._growth.remove(watch, wake)
            if fd >= 0:
                os.close(fd)

    def _is_over(self, task_id: str, attempt: int) -> bool:
        try:
            task = self._service.get(task_id)
        except TaskRunnerError:
            return True  # removed
        return task.final or task.record.attempt != attempt


def _open(path: str) -> int:
    try:
        return open_regular(path)
    except (OSError, Damaged):
        return -1


async def _read(fd: int, offset: int, source: Source) -> Piece | Gap | None:
    """What is at an offset; in a thread unless it is short: what is new is in memory, an old log on a disk."""
    left = os.fstat(fd).st_size - offset
    if left <= 0:
        return None
    if left <= CHUNK:
        return _look(fd, offset, left, source)
    return await asyncio.to_thread(_look, fd, offset, 4 * CHUNK, source)


def _look(fd: int, offset: int, most: int, source: Source) -> Piece | Gap | None:
    data = os.pread(fd, most, offset)
    gap = gaps.find(fd, offset, source.limit, source.told)
    if gap is not None and gap[0] <= offset:
        return Gap(offset=offset, bytes=gap[1] - offset)
    if gap is not None:
        data = data[: gap[0] - offset]
    return Piece(offset=offset, data=data) if data else None


def exists(source: Source) -> bool:
    """Whether there is such a file to be read."""
    fd = _open(source.path)
    if fd >= 0:
        os.close(fd)
    return fd >= 0


def look(source: Source, offset: int, most: int) -> tuple[int, Piece | Gap | None]:
    """How long the output is by now, and what is at an offset, at most so many bytes of it. Blocks for the disk."""
    fd = _open(source.path)
    if fd < 0:
        return 0, None
    try:
        return os.fstat(fd).st_size, _look(fd, offset, most, source)
    finally:
        os.close(fd)


def first_kept(source: Source, offset: int) -> int:
    """``offset``, or where the gap that it is in ends."""
    gap = _gap_at(source, offset)
    return offset if gap is None else gap[1]


def _gap_at(source: Source, offset: int) -> tuple[int, int] | None:
    fd = _open(source.path)
    if fd < 0:
        return None
    try:
        gap = gaps.find(fd, offset, source.limit, source.told)
    finally:
        os.close(fd)
    return gap if gap is not None and gap[0] <= offset else None


def tail_offset(source: Source, lines: int) -> int:
    """Where the last ``lines`` lines begin: where a gap begins, if not so many come after it."""
    fd = _open(source.path)
    if fd < 0:
        return 0
    try:
        return _tail_offset(fd, source, lines)
    finally:
        os.close(fd)


def _tail_offset(fd: int, source: Source, lines: int) -> int:
    end = position = os.fstat(fd).st_size
    gap = gaps.find(fd, 0, source.limit, source.told)
    while position > (gap[1] if gap else 0):
        start = max(gap[1] if gap else 0, position - CHUNK)
        block = os.pread(fd, position - start, start)
        gap = gaps.find(fd, 0, source.limit, source.told)
        if gap is not None and gap[1] > start:
            block, start = block[gap[1] - start :], gap[1]  # it has grown meanwhile
        cut = len(block)
        if position == end and block.endswith(b"\n"):
            cut -= 1  # the line feed that ends the last line begins no other
        while lines > 0 and (cut := block.rfind(b"\n", 0, cut)) >= 0:
            lines -= 1
            if lines == 0:
                return start + cut + 1
        if lines == 0:
            return end
        position = start
    return gap[0] if gap else 0
