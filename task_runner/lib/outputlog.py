"""What a task's commands write, from the runner's side.

Rule 1: a command writes straight to the file (promise 6). Where a limit is set, the runner looks at the size now and
        then and frees the middle (lib/gaps.py); nobody waits for that.
Rule 2: only where lines are to be stamped or secrets masked, or the commands must not have a hold of the file
        (lib/walls.py), does the output pass through a filter (lib/outputpipe.py).
Rule 3: a plain output costs what it costs to open a file.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping

from task_runner.lib import gaps, outputfilter
from task_runner.lib.clock import stamp
from task_runner.lib.digest import sha256_of
from task_runner.lib.outputpipe import OutputPipe
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.model.spec import OutputMode, Spec
from task_runner.model.status import Gap, Output

#: seconds between two looks at a limited output: while it grows fast, and when it has long been silent
QUICK, SLOW = 0.02, 2.0
#: how much may be written between two looks, at the speed of late: this share of the limit, but at least so many bytes
SHARE, LEAST = 4, 1 << 20


class OutputLog:
    """The output of one attempt: one file, or two where the streams are kept apart."""

    def __init__(
        self, directory: AttemptDirectory, spec: Spec, secrets: Mapping[str, str], *, filtered: bool = False
    ) -> None:
        """``filtered``: the commands get no hold of the files, whatever else the spec asks for."""
        if spec.output_mode is OutputMode.SEPARATE:
            self._files = [_File(directory.stdout), _File(directory.stderr)]
        else:
            self._files = [_File(directory.output)]
        self._limit = spec.max_output_bytes
        self._stamped = spec.output_timestamps
        self._patterns = outputfilter.patterns(secrets.values()) if spec.mask_secrets else ()
        self._filtered = filtered or self._stamped or bool(self._patterns)
        self._pipe: OutputPipe | None = None
        self._last_look = 0.0
        self._last_size = 0
        self._patience = QUICK
        self._note: str | None = None  # why the limit is not kept, where it cannot be

    def open(self) -> None:
        """Create the files. Raises OSError."""
        try:
            for file in self._files:
                file.open()
        except OSError:
            self.close()
            raise
        if self._filtered:
            self._pipe = OutputPipe([file.fd for file in self._files], self._patterns, stamped=self._stamped)

    def close(self) -> None:
        for file in self._files:
            file.close()

    # -- around an action

    @property
    def stdout(self) -> int:
        """What an action is given as its standard output, after `begin`."""
        return self._pipe.sinks[0] if self._pipe and self._pipe.sinks else self._files[0].fd

    @property
    def stderr(self) -> int:
        """What an action is given as its standard error, after `begin`."""
        return self._pipe.sinks[-1] if self._pipe and self._pipe.sinks else self._files[-1].fd

    def begin(self) -> None:
        """Get ready for an action. Raises OSError where there is no process or descriptor left for a filter."""
        if self._pipe is not None:
            self._pipe.begin()

    def end(self) -> None:
        """When all processes of an action have ended: see that all they wrote is in the files."""
        if self._pipe is not None:
            self._pipe.end()

    @property
    def filters(self) -> set[int]:
        """Children of the runner that are no part of the task: not to be signalled, frozen or waited for with it."""
        return self._pipe.filters if self._pipe is not None else _NONE

    def reaped(self, pid: int) -> bool:
        """Take note that a child has been waited for: whether it was a filter. One that was killed is replaced."""
        return self._pipe is not None and self._pipe.reaped(pid)

    # -- what there is of it

    def size(self) -> tuple[int, int | None]:
        """Bytes written so far to output.log, or to stdout.log and stderr.log."""
        sizes = [file.size() for file in self._files]
        return sizes[0], sizes[1] if len(sizes) > 1 else None

    def written_at(self) -> float | None:
        """When the last byte was written, by the wall clock; None before the first."""
        times = [at for file in self._files if (at := file.seen()[1]) is not None]
        return max(times, default=None)

    def report(self) -> tuple[Output, Output | None]:
        """For a status: of output.log, or of stdout.log and stderr.log."""
        reports = [file.report(None, self._note) for file in self._files]
        return reports[0], reports[1] if len(reports) > 1 else None

    def seal(self) -> tuple[Output, Output | None]:
        """For the last status, when nothing writes any more: with the sums, where they can be made."""
        self._free()
        reports = [file.report(file.sum(), self._note) for file in self._files]
        return reports[0], reports[1] if len(reports) > 1 else None

    # -- the limit

    def check(self) -> float | None:
        """Free what is over the limit; returns in how many seconds to ask again, None for never."""
        if self._limit is None or self._note is not None:
            return None
        now, size = time.monotonic(), sum(file.size() for file in self._files)
        self._patience = next_look(self._limit, self._patience, size - self._last_size, now - self._last_look)
        self._last_look, self._last_size = now, size
        self._free()
        return self._patience

    def _free(self) -> None:
        if self._limit is None or self._note is not None:
            return
        for file in self._files:
            try:
                file.free(self._limit)
            except OSError as error:
                if error.errno in gaps.IMPOSSIBLE:
                    self._note = f"the output is kept whole: this file system frees no middle ({error.strerror})"


_NONE: set[int] = set()


def next_look(limit: int, patience: float, grown: int, elapsed: float) -> float:
    """Seconds until the next look at an output that has grown by so many bytes in so many seconds.

    Later and later while it is silent; when it grows, by the time it may take to grow by a share of the limit.
    """
    longer = min(SLOW, 2 * patience)
    if grown <= 0:
        return longer
    return max(QUICK, min(longer, max(limit // SHARE, LEAST) * elapsed / grown))


class _File:
    """One file of output."""

    __slots__ = ("_path", "fd", "_gap", "_before")

    def __init__(self, path: str) -> None:
        self._path = path
        self.fd = -1
        self._gap = (0, 0)
        #: size and time of the last write, from before a middle was freed: that changes the file's time
        self._before: tuple[int, float] | None = None

    def open(self) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self.fd = os.open(self._path, flags, 0o600)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def size(self) -> int:
        return os.fstat(self.fd).st_size

    def seen(self) -> tuple[int, float | None]:
        """Size, and when the last byte was written."""
        return self._read(os.fstat(self.fd))

    def _read(self, seen: os.stat_result) -> tuple[int, float | None]:
        if self._before is not None and self._before[0] == seen.st_size:
            return self._before
        return seen.st_size, seen.st_mtime if seen.st_size else None

    def free(self, limit: int) -> None:
        """Free the middle, as far as it has not been. Raises OSError."""
        seen = os.fstat(self.fd)
        start, end = gaps.middle(seen.st_size, limit, gaps.block_of(seen))
        if end <= start or end <= self._gap[1]:
            return
        size, written_at = self._read(seen)
        gaps.punch(self.fd, max(start, self._gap[1]), end)
        self._gap = (start, end)
        if written_at is not None:
            self._before = (size, written_at)

    def report(self, sha256: str | None, note: str | None) -> Output:
        size, written_at = self.seen()
        start, end = self._gap
        return Output(
            bytes=size,
            written_at=None if written_at is None else stamp(written_at),
            sha256=sha256,
            gaps=[Gap(offset=start, bytes=end - start)] if end else [],
            note=note,
        )

    def sum(self) -> str | None:
        """SHA-256 of all bytes that are kept; None where it cannot be made."""
        size = self.size()
        start, end = self._gap
        if size < end:
            return None  # somebody has cut the file
        try:
            reader = os.open(f"/proc/self/fd/{self.fd}", os.O_RDONLY | os.O_CLOEXEC) if size else -1
        except OSError:
            return None
        try:
            return sha256_of(reader, [(0, start), (end, size)])
        except OSError:
            return None
        finally:
            if reader >= 0:
                os.close(reader)
