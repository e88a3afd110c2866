"""The lines of a log that grows, for who forwards them (lib/forwarding/forwarder.py).

Rule 1: nothing is kept in memory that the log has. A place in it says what has been sent, so it can be read again.
Rule 2: what a bounded log has freed before it was read is left out, and so is the line that this has cut.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from typing import Any, NamedTuple

from task_runner.lib import gaps
from task_runner.lib.taskdir import open_regular

CHUNK = 64 * 1024
#: bytes whose lines are counted before others have their turn
COUNTED_AT_ONCE = 64 * CHUNK
#: how many times of growth are remembered
TIMES = 512


class Log:
    """One file of output: what of it has come, when, of which action, and how many lines it is."""

    def __init__(self, path: str, stream: str, limit: int | None) -> None:
        """``limit``: bytes beyond which the runner frees the middle. Raises Damaged, OSError."""
        self.fd = open_regular(path)
        self.stream = stream
        #: nothing more is to be read
        self.ended = False
        #: and nothing more will ever come: a last line without a line feed is a line
        self.complete = False
        self._limit = limit
        self._size = 0
        self._counted = 0
        self._line_feeds = 0
        self._open = False  # the last line that was counted has no line feed
        self._uncounted = False  # some bytes were gone before they could be counted
        self._times: list[tuple[int, float]] = []
        self._starts: list[tuple[int, int]] = []

    def grow(self, time: float) -> bool:
        """See what has come by this time of the wall clock; returns whether there was anything."""
        if self.ended:
            return False
        size = os.fstat(self.fd).st_size
        if size <= self._size:
            return False
        self._size = size
        self._times.append((size, time))
        if len(self._times) > TIMES:
            del self._times[:-1:2]
        return True

    def end(self, size: int | None) -> None:
        """Nothing more will come than so many bytes. None: what is there now is to be read, and who reads what comes
        then is somebody else."""
        there = os.fstat(self.fd).st_size
        self._size = there if size is None else min(size, there)
        self.ended, self.complete = True, size is not None

    # -- of which action, and when

    def begin(self, action: int, offset: int) -> None:
        """What comes from there on is of this action."""
        self._starts.append((offset, action))

    def action(self, offset: int) -> int | None:
        index = bisect_right(self._starts, offset, key=lambda each: each[0])
        return self._starts[index - 1][1] if index else None

    def time(self, offset: int, otherwise: float) -> float:
        """When the byte before this offset was first seen; a little later where much has come since."""
        index = bisect_left(self._times, offset, key=lambda each: each[0])
        return self._times[index][1] if index < len(self._times) else otherwise

    # -- how many lines

    def count(self) -> bool:
        """Count lines of what has come; returns whether there are more to be counted."""
        stop = self._counted + COUNTED_AT_ONCE
        while self._counted < stop:
            data, following = self.read(self._counted)
            if following == self._counted:
                return False
            if data:
                self._line_feeds += data.count(b"\n")
                self._open = not data.endswith(b"\n")
            else:
                self._uncounted = True
            self._counted = following
        return True

    def lines(self) -> int | None:
        """All lines that have ever come; None where they could not be counted."""
        if self._uncounted or self._counted < self._size:
            return None
        return self._line_feeds + self._open

    # -- for who follows

    def state(self) -> dict[str, Any]:
        """What a later process has to know of what it can no longer see."""
        return {
            "counted": self._counted,
            "lineFeeds": self._line_feeds,
            "open": self._open,
            "uncounted": self._uncounted,
            "starts": self._starts,
        }

    def resume(self, state: dict[str, Any]) -> None:
        self._counted, self._line_feeds = state["counted"], state["lineFeeds"]
        self._open, self._uncounted = state["open"], state["uncounted"]
        self._starts = [(offset, action) for offset, action in state["starts"]]

    # -- reading

    def read(self, offset: int) -> tuple[bytes, int]:
        """Bytes from there on, and where the next ones are. No bytes, and a later place: those between are gone."""
        if offset >= self._size:
            return b"", offset
        data = os.pread(self.fd, min(CHUNK, self._size - offset), offset)
        # asked after they were read: only so is it sure that the zeros of a hole are not taken for output
        gap = gaps.find(self.fd, offset, self._limit) if data else None
        if gap is None or gap[0] >= offset + len(data):
            return data, offset + len(data)
        if gap[0] > offset:
            return data[: gap[0] - offset], gap[0]
        return b"", gap[1]


class Line(NamedTuple):
    """A line, or a part of one that is too long, without its line feed."""

    reader: Reader
    text: bytes
    #: where it stands in its log
    start: int
    end: int
    #: 1 and up
    part: int
    #: the line ends with it
    last: bool


class Reader:
    """Cuts a log into lines. Each target has one of its own, and is where it is."""

    def __init__(self, log: Log, longest: int) -> None:
        """``longest``: lines with more bytes are given in parts, cut between characters."""
        self.log = log
        self._longest = longest
        self.seek(0, 1)

    def seek(self, start: int, part: int, cut: bool = False) -> None:
        """Go to the start of a line, or of a part of it, that was given before. ``cut``: or to the middle of a line
        whose beginning is gone."""
        self._held, self._at = b"", 0
        self._offset = start  # of the byte after those held
        self._part = part
        self._cut = cut

    @property
    def place(self) -> tuple[int, int, bool]:
        """Where it is, for `seek`."""
        return self._offset - len(self._held) + self._at, self._part, self._cut

    def next(self) -> Line | None:
        """The next line; None where there is none by now, or by the end."""
        while True:
            if self._cut:
                self._pass_cut_line()
            if (line := self._whole_or_part()) is not None:
                return line
            if not self._read_on():
                return self._rest()

    def _read_on(self) -> bool:
        data, following = self.log.read(self._offset)
        if following == self._offset:
            return False
        if data:
            self._held, self._at = self._held[self._at :] + data, 0
        else:
            self.seek(following, 1, cut=True)
        self._offset = following
        return True

    def _pass_cut_line(self) -> None:
        stop = self._held.find(b"\n", self._at)
        self._cut = stop < 0
        self._at = len(self._held) if self._cut else stop + 1

    def _whole_or_part(self) -> Line | None:
        stop = self._held.find(b"\n", self._at, self._at + self._longest + 1)
        if stop >= 0:
            return self._take(stop, stop + 1, last=True)
        if len(self._held) - self._at <= self._longest:
            return None
        stop = self._between_characters(self._at + self._longest)
        return self._take(stop, stop, last=False)

    def _between_characters(self, stop: int) -> int:
        for back in range(4):
            if self._held[stop - back] & 0xC0 != 0x80:
                return stop - back
        return stop  # that is no UTF-8

    def _rest(self) -> Line | None:
        """The last line, where it has no line feed."""
        if not self.log.complete or self._at == len(self._held):
            return None
        return self._take(len(self._held), len(self._held), last=True)

    def _take(self, stop: int, following: int, *, last: bool) -> Line:
        base = self._offset - len(self._held)
        line = Line(self, self._held[self._at : stop], base + self._at, base + following, self._part, last)
        self._at = following
        self._part = 1 if last else self._part + 1
        return line
