"""Following an output file: told by the kernel (inotify) when it grows, by the hub when the task is over.

The bytes a command writes go to the file and to nobody else, so a follower that is slow, or gone, costs the
command nothing.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator

from inotify_simple import INotify, flags

from task_runner.errors import Damaged, TaskRunnerError
from task_runner.lib.taskdir import open_regular
from task_runner.service.task import Task
from task_runner.service.tasks import TaskService

log = logging.getLogger(__name__)

CHUNK = 64 * 1024
#: seconds between looks where the kernel does not tell (no inotify instances or watches left)
FALLBACK = 0.2


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
    """Reads one attempt's output from an offset, to the end of the task if asked."""

    def __init__(self, service: TaskService, growth: GrowthWatch, closing: asyncio.Event) -> None:
        self._service = service
        self._growth = growth
        self._closing = closing

    async def read(self, task: Task, attempt: int, offset: int, *, follow: bool) -> AsyncIterator[tuple[int, bytes]]:
        """Yield chunks with the offset of each, every byte once."""
        path = self._service.environment.output_path(task.id, attempt)
        wake = asyncio.Event()
        watch: int | None = None
        fd = -1
        try:
            with self._service.hub.subscribe(task.id, wake):
                while True:
                    wake.clear()
                    # before the read: what is over by now has written all it will
                    over = not follow or self._is_over(task.id, attempt)
                    fd = fd if fd >= 0 else _open(path)
                    if fd >= 0 and follow and watch is None:
                        watch = self._growth.add(path, wake)
                    while fd >= 0 and (chunk := await _read(fd, offset)):
                        yield offset, chunk
                        offset += len(chunk)
                    if over or self._closing.is_set():
                        return
                    await self._pause(wake, 5.0 if watch is not None or fd < 0 else FALLBACK)
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

    async def _pause(self, wake: asyncio.Event, seconds: float) -> None:
        waits = [asyncio.ensure_future(wake.wait()), asyncio.ensure_future(self._closing.wait())]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


def _open(path: str) -> int:
    try:
        return open_regular(path)
    except (OSError, Damaged):
        return -1


async def _read(fd: int, offset: int) -> bytes:
    """A chunk, in a thread unless it is short: what was just written is in memory, an old log is on a disk."""
    left = os.fstat(fd).st_size - offset
    if left <= 0:
        return b""
    if left <= CHUNK:
        return os.pread(fd, left, offset)
    return await asyncio.to_thread(os.pread, fd, 4 * CHUNK, offset)


def tail_offset(path: str, lines: int) -> int:
    """Where the last ``lines`` lines of a file begin."""
    fd = _open(path)
    if fd < 0:
        return 0
    try:
        end = position = os.fstat(fd).st_size
        wanted = lines
        while position > 0 and wanted >= 0:
            start = max(0, position - CHUNK)
            block = os.pread(fd, position - start, start)
            cut = len(block)
            if position == end and block.endswith(b"\n"):
                cut -= 1  # the line feed that ends the last line begins no other
            while wanted > 0 and (cut := block.rfind(b"\n", 0, cut)) >= 0:
                wanted -= 1
                if wanted == 0:
                    return start + cut + 1
            if wanted == 0:
                return end
            position = start
        return 0
    finally:
        os.close(fd)
