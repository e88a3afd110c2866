"""The filter: a process that stands between a task's commands and its output, where the task asks for that.

It puts the time in front of every line, writes stars in place of secrets, or both. It reads from pipes and writes to
the files to their end; its own end comes when nobody can write to the pipes any more. Should its runner die, it goes
on to that end, so what the commands wrote before they are cleared away is kept.

Masking: every byte that belongs to an occurrence of a secret becomes a star, overlapping occurrences and line feeds
included, so the result does not depend on how the output was cut into writes. What may be the beginning of a secret
is held back until more is known, however long that takes: safety goes before promptness. It is always less than the
longest secret. A secret of several lines is masked as a whole and line by line.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NoReturn

from task_runner.lib.clock import stamp
from task_runner.lib.helper import leave_runner
from task_runner.model.terms import LEAST_MASKED

#: a line of a secret of several lines is a secret itself if it is not shorter
SHORTEST_LINE = 8
#: what /proc calls a filter, so that it is not taken for a process of the task
NAME = "output-filter"
_CHUNK = 64 * 1024
_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_libc = ctypes.CDLL(None)


def patterns(values: Iterable[str]) -> tuple[bytes, ...]:
    """What to mask: the values, also without the white space around them, and their longer lines."""
    found: set[bytes] = set()
    for value in values:
        whole = value.encode("utf-8", "surrogateescape")
        lines = (line.strip() for line in whole.splitlines())
        found.update(each for each in (whole, whole.strip()) if len(each) >= LEAST_MASKED)
        found.update(line for line in lines if len(line) >= SHORTEST_LINE)
    return tuple(sorted(found, key=lambda each: (-len(each), each)))


class Masker:
    """Masks a stream of bytes, whatever pieces it comes in."""

    def __init__(self, secrets: Sequence[bytes]) -> None:
        self._secrets = secrets
        self._longest = max(map(len, secrets), default=0)
        self._held = b""
        self._covered = 0  # so many of the bytes held back belong to a secret that began before them

    def feed(self, data: bytes) -> bytes:
        """Take bytes; returns those before them and of them that can be told by now."""
        data = self._held + data
        hold = self._beginning(data)
        return self._release(data, len(data) - hold)

    def end(self) -> bytes:
        """Nothing more comes: what was held back is no secret as a whole."""
        return self._release(self._held, len(self._held))

    def _release(self, data: bytes, until: int) -> bytes:
        result = bytearray(data)
        covered = self._covered
        result[:covered] = b"*" * covered
        for secret in self._secrets:
            at = data.find(secret)
            while at >= 0:
                end = at + len(secret)
                result[at:end] = b"*" * len(secret)
                if at < until:
                    covered = max(covered, end)
                at = data.find(secret, at + 1)
        self._held, self._covered = data[until:], max(0, covered - until)
        return bytes(result[:until])

    def _beginning(self, data: bytes) -> int:
        """The length of the longest end of ``data`` that a secret, longer than it, begins with."""
        longest = 0
        end = data[-(self._longest - 1) :]
        for secret in self._secrets:
            at = end.find(secret[:1], max(0, len(end) - len(secret) + 1))
            while at >= 0 and len(end) - at > longest:
                if secret.startswith(end[at:]):
                    longest = len(end) - at
                at = end.find(secret[:1], at + 1)
        return longest


class Stamper:
    """Puts the time in front of every line: the time at which its first byte came."""

    def __init__(self, *, in_line: bool) -> None:
        """``in_line``: what comes first goes on with a line that has its time already."""
        self._in_line = in_line

    def feed(self, data: bytes, seconds: float) -> bytes:
        if not data:
            return data
        mark = stamp(seconds).encode() + b" "
        ended = data.endswith(b"\n")
        body = (data[:-1] if ended else data).replace(b"\n", b"\n" + mark)
        first = b"" if self._in_line else mark
        self._in_line = not ended
        return first + body + (b"\n" if ended else b"")


class Sink:
    """A file to append to. What it does not take is dropped and told: nobody upstream may wait for a full disk."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lost = 0
        self._reason = ""

    def write(self, data: bytes) -> None:
        if self._lost and data:
            note = f"\n[... {self._lost} bytes lost: {self._reason} ...]\n".encode()
            if self._append(note) < len(note):
                self._lost += len(data)
                return
            self._lost = 0
        self._lost += len(data) - self._append(data)

    def _append(self, data: bytes) -> int:
        """Returns how many bytes were written."""
        done = 0
        try:
            while done < len(data):
                done += os.write(self._fd, data[done:] if done else data)
        except OSError as error:
            self._reason = error.strerror or "error"
        return done


@dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """Where a filter reads, and where it writes."""

    source: int
    target: int


class _Stream:
    """One channel at work."""

    def __init__(self, channel: Channel, secrets: Sequence[bytes], *, stamped: bool) -> None:
        self.source = channel.source
        self._masker = Masker(secrets) if secrets else None
        self._stamper = Stamper(in_line=_ends_in_line(channel.target)) if stamped else None
        self._sink = Sink(channel.target)

    def turn(self) -> bool:
        """Pass on what there is; False at the end."""
        data = os.read(self.source, _CHUNK)
        more = bool(data)
        if self._masker is not None:
            data = self._masker.feed(data) if more else self._masker.end()
        if self._stamper is not None:
            data = self._stamper.feed(data, time.time())
        self._sink.write(data)
        return more


def _ends_in_line(fd: int) -> bool:
    """Whether a file's last line lacks its line feed."""
    size = os.fstat(fd).st_size
    if size == 0:
        return False
    reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.pread(reader, 1, size - 1) != b"\n"
    finally:
        os.close(reader)


def pass_on(channels: Sequence[Channel], secrets: Sequence[bytes], *, stamped: bool) -> None:
    """Read the sources to their ends."""
    streams = {each.source: _Stream(each, secrets, stamped=stamped) for each in channels}
    poll = select.poll()
    for source in streams:
        poll.register(source, select.POLLIN)
    while streams:
        for source, _event in poll.poll():
            if not streams[source].turn():
                poll.unregister(source)
                del streams[source]


def start(channels: Sequence[Channel], secrets: Sequence[bytes], *, stamped: bool) -> int:
    """Fork a filter; returns its pid. Raises OSError."""
    # blocked until the child has left the runner: a signal for it would be noted in the runner's inbox
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _become(channels, secrets, stamped)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def _become(channels: Sequence[Channel], secrets: Sequence[bytes], stamped: bool) -> NoReturn:
    try:
        _libc.prctl(_PR_SET_NAME, NAME.encode(), 0, 0, 0)
        # if it has been stopped with the task and the runner dies, it goes on to its end
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGCONT, 0, 0, 0)
        leave_runner({fd for each in channels for fd in (each.source, each.target)})
        pass_on(channels, secrets, stamped=stamped)
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)
