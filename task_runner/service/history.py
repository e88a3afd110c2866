"""History: what the machine and the queue were like over the last day, in samples of ten seconds.

Promise: a sample says what was so, or that it is not known. Nothing is filled in: where no daemon ran there is nothing.

The samples stand in a ring of a fixed size, in memory and, once a minute and at the end, in <state>/history: SIGKILL
takes a minute at most. No transaction of the store is spent on it, and a full disk costs the next daemon's picture
alone.

The file: MAGIC, then SLOTS records (`_RECORD`): seconds since 1970, then one number for each of FIELDS, NaN where it is
not known; behind each its checksum (`_CHECK`, CRC-32 of the record), and one that does not fit it is left out. A
sample's slot is its time divided by STEP, modulo SLOTS. In format 1 there were no checksums: such a file is taken up as
it is, once, and is one of format 2 from then on.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
import os
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from task_runner.lib import use
from task_runner.lib.clock import Clock
from task_runner.model.state import ACTIVE
from task_runner.service.book import Book
from task_runner.service.queue import Queue
from task_runner.service.schedule import SLOT
from task_runner.service.waiting import Place

log = logging.getLogger(__name__)

#: seconds between two samples, and how many are kept
STEP, SLOTS = 10, 24 * 360
#: samples between two times that they are written
_WRITE_EVERY = 6
#: more than this between two samples: there was no daemon, or it could not look
_GAP = 2.5 * STEP

_MACHINE = ("cpu", "load", "memory", "memoryTotal", "disk", "diskTotal")
_TASKS = ("running", "stalled", "slots", "slotsTotal", "queued")
FIELDS = (*_MACHINE, *_TASKS, *(f"queued.{place.value}" for place in Place))
#: where more than these wait, it is not counted what for: that takes a look at each
_MOST_SURVEYED = 10_000
#: those that are no counts
_FRACTIONS = frozenset({"cpu", "load"})
#: with the fields in it: where another version has others, its file is not read
MAGIC = f"task-runner history 2 {len(FIELDS)}\n".encode()
_MAGIC_1 = f"task-runner history 1 {len(FIELDS)}\n".encode()
_RECORD = struct.Struct(f"<q{len(FIELDS)}f")
_CHECK = struct.Struct("<I")
#: single precision: 7 digits of a size are more than a picture shows, and a day takes half the memory

Values = dict[str, float | None]


def census(book: Book, queue: Queue) -> Values:
    """What the daemon knows of its tasks, by the names in FIELDS."""
    active = [task for task in book.active.values() if task.record.state in ACTIVE]
    room, surveyed = queue.room(), len(queue) <= _MOST_SURVEYED
    crowds = queue.survey() if surveyed else {}
    total, free = room.total.get(SLOT, math.inf), room.free.get(SLOT, math.inf)
    limited = math.isfinite(total)
    places = {f"queued.{place.value}": crowds[place].count if place in crowds else 0 for place in Place}
    return {
        "running": len(active),
        "stalled": sum(1 for task in active if task.stalled is not None),
        "slots": total - free if limited else None,
        "slotsTotal": total if limited else None,
        "queued": len(queue),
        **(places if surveyed else {}),
    }


class Ring:
    """The samples, in memory and in a file. ``path``: where they outlive the daemon."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._data = bytearray(SLOTS * _RECORD.size)
        self._unwritten: set[int] = set()
        self._file: int | None = None
        self._trouble = False
        #: of the file: the last write comes while a thread may be at one, or has yet to open it
        self._writing = threading.Lock()

    def add(self, at: int, values: Values) -> None:
        """``at``: seconds since 1970."""
        slot = at // STEP % SLOTS
        numbers = [math.nan if (value := values.get(name)) is None else value for name in FIELDS]
        _RECORD.pack_into(self._data, slot * _RECORD.size, at, *numbers)
        self._unwritten.add(slot)

    def since(self, start: float, now: float) -> list[tuple[Any, ...]]:
        """The samples from ``start`` to ``now``, oldest first, and none that is older than a day."""
        start = max(start, now - SLOTS * STEP)
        # a slot that was never filled has the time 0, which is no day ago where the clock was never set
        found = (record for record in _RECORD.iter_unpack(bytes(self._data)) if max(start, 1) <= record[0] <= now)
        return sorted(found, key=lambda record: record[0])

    def open(self, now: float) -> None:
        """Take up what an earlier daemon has seen. Blocks for the disk."""
        try:
            with self._writing:
                data = self._opened()
        except OSError as error:
            self._complain(error)
            return
        damaged = 0
        for slot, record in enumerate(_parts(data, _RECORD.size + _CHECK.size)):
            if record[_RECORD.size :] != _check(record[: _RECORD.size]):
                damaged += any(record)
                continue
            at, *numbers = _RECORD.unpack_from(record)
            if now - SLOTS * STEP < at <= now and at // STEP % SLOTS == slot:
                _RECORD.pack_into(self._data, slot * _RECORD.size, at, *numbers)
        if damaged:
            log.warning("%s: %d of its samples are damaged, and are not shown", self._path, damaged)

    def _opened(self) -> bytes:
        """The records of an earlier daemon, with their checksums. One of format 1 is rewritten at once, or left as it
        is where there is no space for that."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd, size = os.open(self._path, flags, 0o600), len(MAGIC) + SLOTS * (_RECORD.size + _CHECK.size)
        try:
            data = os.pread(fd, size + 1, 0)
            if len(data) != size or not data.startswith(MAGIC):
                earlier = len(data) == len(_MAGIC_1) + SLOTS * _RECORD.size and data.startswith(_MAGIC_1)
                left = len(data) if earlier else 0
                os.ftruncate(fd, left)
                try:
                    os.posix_fallocate(fd, 0, size)  # from then on a full disk hinders nothing
                except OSError:
                    os.ftruncate(fd, left)
                    raise
                records = _parts(data[len(_MAGIC_1) :], _RECORD.size) if earlier else ()
                data = MAGIC + b"".join(record + _check(record) for record in records)
                os.pwrite(fd, data, 0)
        except OSError:
            os.close(fd)
            raise
        self._file = fd
        return data[len(MAGIC) :]

    def write(self) -> None:
        """Write what has come since. Blocks for the disk."""
        with self._writing:
            try:
                self._write()
                self._trouble = False
            except OSError as error:
                self._complain(error)

    def _write(self) -> None:
        if self._file is None:
            self._opened()
        assert self._file is not None
        for slot in list(self._unwritten):
            record = bytes(self._data[slot * _RECORD.size : (slot + 1) * _RECORD.size])
            os.pwrite(self._file, record + _check(record), len(MAGIC) + slot * (_RECORD.size + _CHECK.size))
            self._unwritten.discard(slot)

    def close(self) -> None:
        self.write()
        with self._writing:
            if self._file is not None:
                os.close(self._file)
                self._file = None

    def _complain(self, error: OSError) -> None:
        if not self._trouble:
            log.warning("%s cannot be used, and is tried again: %s", self._path, error.strerror)
        self._trouble = True


def _parts(data: bytes, size: int) -> Iterator[bytes]:
    return (data[begin : begin + size] for begin in range(0, len(data), size))


def _check(record: bytes) -> bytes:
    return _CHECK.pack(zlib.crc32(record))


@dataclass(slots=True)
class _Processors:
    """How busy they were between two looks."""

    _before: tuple[float, float] | None = None

    def share(self, busy: float | None, cpus: int, now: float) -> float | None:
        """From 0 to 1, since the last look; None: not known."""
        before, self._before = self._before, None if busy is None else (busy, now)
        if before is None or busy is None or now <= before[1]:
            return None
        return min(1.0, max(0.0, (busy - before[0]) / (now - before[1]) / cpus))


class History:
    """Takes the samples. ``tasks`` says what the daemon knows itself, by the names in FIELDS; ``directory`` is on the
    disk that is looked at."""

    def __init__(self, path: str, clock: Clock, *, tasks: Callable[[], Values], directory: str) -> None:
        self._ring = Ring(path)
        self._clock = clock
        self._tasks = tasks
        self._directory = directory
        self._processors = _Processors()

    async def run(self) -> None:
        """Take them, for ever; those of an earlier daemon first."""
        await asyncio.to_thread(self._ring.open, self._clock.time())
        try:
            for count in itertools.count():
                await self._take(write=count % _WRITE_EVERY == _WRITE_EVERY - 1)
                await asyncio.sleep(_pause(self._clock.time()))
        finally:
            self._ring.close()

    async def _take(self, *, write: bool) -> None:
        try:
            values = {**await asyncio.to_thread(self._machine), **self._tasks()}
            self._ring.add(int(self._clock.time()), values)
            if write:
                await asyncio.to_thread(self._ring.write)
        except Exception:
            log.exception("a sample could not be taken")

    def _machine(self) -> Values:
        seen = use.machine()
        free = seen.available_bytes
        memory = None if free is None or seen.memory_bytes is None else seen.memory_bytes - free
        return {
            "cpu": self._processors.share(seen.cpu_seconds, seen.cpus, self._clock.monotonic()),
            "load": _load(),
            "memory": memory,
            "memoryTotal": seen.memory_bytes,
            **_disk(self._directory),
        }

    def shown(self, hours: float) -> dict[str, Any]:
        """The samples of the last hours by column, as `/v1` shows them. Where some are missing stands a moment of which
        nothing is known, so that no line is drawn across it. Blocks: it reads thousands."""
        now = self._clock.time()
        records = [*_with_gaps(self._ring.since(now - hours * 3600, now))]
        columns = [*zip(*records, strict=True)] if records else [()] * (1 + len(FIELDS))
        at, *rest = columns
        found = {name: [*map(_as_shown(name), column)] for name, column in zip(FIELDS, rest, strict=True)}
        queued = {place.value: found.pop(f"queued.{place.value}") for place in Place}
        return {"stepSeconds": STEP, "at": list(at), **found, "queuedFor": queued}


def _pause(now: float) -> float:
    """Seconds to the next moment to look. Who woke a little early waits for the one after: right after a look there is
    nothing yet to compare with, and the processors would seem to rest."""
    left = STEP - now % STEP
    return left if left > STEP / 10 else left + STEP


def _with_gaps(records: list[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    before = None
    for record in records:
        if before is not None and record[0] - before > _GAP:
            yield (before + STEP, *[math.nan] * len(FIELDS))
        before = record[0]
        yield record


def _as_shown(name: str) -> Callable[[float], float | None]:
    if name in _FRACTIONS:
        return lambda value: round(value, 3) if math.isfinite(value) else None
    return lambda value: int(value) if math.isfinite(value) else None


def _load() -> float | None:
    try:
        return os.getloadavg()[0]
    except OSError:
        return None


def _disk(directory: str) -> Values:
    try:
        found = os.statvfs(directory)
    except OSError:
        return {}
    # as `df` has it: what is kept for root is neither used nor free
    return {
        "disk": (found.f_blocks - found.f_bfree) * found.f_frsize,
        "diskTotal": (found.f_blocks - found.f_bfree + found.f_bavail) * found.f_frsize,
    }
