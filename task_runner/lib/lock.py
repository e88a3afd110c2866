"""The lock file of an attempt: its claim, the proof that its runner lives, and the runner's pulse.

Rule 1: an attempt runs only in a process that created its lock file. The file appears by link(2), which fails
        if it exists, so of all that try one wins, and it appears already locked and already filled.
Rule 2: a runner lives as long as its lock is held. The kernel lets go of it when the process ends, however.
Rule 3: nobody but `claim`, and who follows a dead runner (rule 4), takes the lock exclusively. A probe takes it shared,
        so two probes cannot mistake each other for a runner.
Rule 4: what a dead runner had in hand may live on where it runs (a container). Then a successor may take the attempt
        over: it takes the dead runner's lock, and replaces the file by one of its own while it holds it. So of all
        that try one wins; and it holds both for its life, so that no probe sees either free. Or the daemon wins, by the
        same two steps: it bars the attempt, and no successor comes any more.

The recovering daemon takes part in rule 1: `void` creates the same file, held by nobody. If it wins, that
attempt can never start in that directory, and the directory may be thrown away and the task launched anew. If
it loses, a runner has claimed the attempt, and its directory tells the rest.

Content: one line of JSON (identity and granted graphics processors, or that it is void), then one line with the
pulse, rewritten in place. A block once written can be written again on a full disk. The format is numbered like
status.json's.

WARNING: flock is not inherited by exec (close-on-exec), but by fork: a machine that runs in a forked child
must close the descriptor first (machines/base.py does).
"""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from task_runner.errors import Damaged
from task_runner.lib.clock import stamp
from task_runner.lib.taskdir import AttemptDirectory, open_regular, write_all
from task_runner.model.codec import from_json
from task_runner.model.status import FORMAT, Heartbeat, Identity

_HEAD = '{"format": %d, "runner": {"pid": %d, "startTime": %d, "bootId": "%s"}%s}\n'
#: no lock file is longer: a thousand graphics processors, each by index
_LONGEST = 1 << 14
#: seconds that probes, which hold it for moments, may keep a successor from the lock
_PROBES_PATIENCE = 2.0
_PULSE = "beat {at} monotonic {monotonic:018.6f}\n"


class AlreadyClaimed(Exception):
    """Somebody else has this attempt: do not run it."""


class HeldLock:
    """The lock of the runner that holds it."""

    def __init__(self, fd: int, pulse_offset: int, inherited: int = -1) -> None:
        """``inherited``: the lock of the runner before, which is held as well."""
        self.fd = fd
        self._pulse_offset = pulse_offset
        self._inherited = inherited

    def close(self) -> None:
        os.close(self.fd)
        if self._inherited >= 0:
            os.close(self._inherited)

    def beat(self, time: float, monotonic: float) -> Heartbeat:
        """Show a sign of life."""
        at = stamp(time)
        try:
            os.pwrite(self.fd, _PULSE.format(at=at, monotonic=monotonic).encode(), self._pulse_offset)
        except OSError:
            pass  # a pulse is not worth a task
        return Heartbeat(at=at, monotonic=monotonic)


def claim(
    directory: AttemptDirectory, me: Identity, time: float, monotonic: float, gpus: Sequence[int] = ()
) -> HeldLock:
    """Claim the attempt for this process, and say which graphics processors it has. Raises AlreadyClaimed, OSError."""
    head = _head(me, gpus)
    fd = _publish(directory, head + _PULSE.format(at=stamp(time), monotonic=monotonic), lock=True)
    return HeldLock(fd, len(head))


def _head(me: Identity, gpus: Sequence[int]) -> str:
    granted = f', "gpus": {json.dumps(list(gpus))}' if gpus else ""
    return _HEAD % (FORMAT, me.pid, me.start_time, me.boot_id, granted)


class Inheritance:
    """The lock of a dead runner, held: nobody else follows it, as long as this is not closed."""

    def __init__(self, directory: AttemptDirectory) -> None:
        """Raises AlreadyClaimed where its runner lives, where somebody else follows it or has barred it, and where
        there was none."""
        self._directory = directory
        try:
            self._fd = open_regular(directory.lock)
        except (OSError, Damaged):
            raise AlreadyClaimed(directory.path) from None
        try:
            self._seize()
        except AlreadyClaimed:
            os.close(self._fd)
            raise

    def _seize(self) -> None:
        deadline = time.monotonic() + _PROBES_PATIENCE
        while True:
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise AlreadyClaimed(self._directory.path) from None
                time.sleep(0.005)
        self._content = os.pread(self._fd, _LONGEST, 0)
        found = _parse(self._content, held=True)
        try:
            replaced = not os.path.samestat(os.stat(self._directory.lock, follow_symlinks=False), os.fstat(self._fd))
        except OSError:
            replaced = True
        if replaced or found.runner is None or found.barred:
            raise AlreadyClaimed(self._directory.path)

    def take(self, me: Identity, time: float, monotonic: float, gpus: Sequence[int] = ()) -> HeldLock:
        """Become the attempt's runner. Raises OSError: then nothing has changed."""
        head = _head(me, gpus)
        fd = self._replace(head + _PULSE.format(at=stamp(time), monotonic=monotonic))
        return HeldLock(fd, len(head), self._fd)

    def bar(self) -> None:
        """Let nobody follow. What the file says of the dead runner stays. Raises OSError: then nothing has changed."""
        head, _, pulse = self._content.partition(b"\n")
        barred = json.dumps({**json.loads(head), "barred": True})
        os.close(self._replace(f"{barred}\n{pulse.decode(errors='replace')}"))
        self.close()

    def _replace(self, content: str) -> int:
        temporary = f"{self._directory.lock}.{os.getpid()}"
        fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            write_all(fd, content.encode())
            os.rename(temporary, self._directory.lock)
        except OSError:
            os.close(fd)
            os.unlink(temporary)
            raise
        return fd

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)


def bar(directory: AttemptDirectory) -> bool:
    """Make sure that nobody takes the attempt of a dead runner over; False where somebody has. Raises OSError."""
    try:
        Inheritance(directory).bar()
    except AlreadyClaimed:
        found = probe(directory)
        return found.barred or found.runner is None
    return True


def void(directory: AttemptDirectory) -> bool:
    """Make sure that this attempt never starts here; False if a runner has claimed it before."""
    try:
        os.close(_publish(directory, json.dumps({"format": FORMAT, "void": True}) + "\n", lock=False))
    except AlreadyClaimed:
        return probe(directory).void
    except FileNotFoundError:
        return True  # not even a directory: a runner would have to make it anew, and then claim it
    return True


def _publish(directory: AttemptDirectory, content: str, *, lock: bool) -> int:
    temporary = f"{directory.lock}.{os.getpid()}"
    fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        if lock:
            fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(fd, content.encode())
        os.link(temporary, directory.lock)
    except FileExistsError:
        os.close(fd)
        raise AlreadyClaimed(directory.path) from None
    except OSError:
        os.close(fd)
        raise
    finally:
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass
    return fd


@dataclass(frozen=True, slots=True)
class Probe:
    """What the lock file tells."""

    #: the attempt was claimed, by a runner or by a daemon that made it void
    claimed: bool = False
    #: a runner holds it now
    held: bool = False
    void: bool = False
    #: its runner is dead, and nobody is to follow it
    barred: bool = False
    runner: Identity | None = None
    heartbeat: Heartbeat | None = None
    #: the graphics processors it was given, by index
    gpus: tuple[int, ...] = ()
    #: what is wrong with the file, if anything
    damage: str | None = None


def probe(directory: AttemptDirectory) -> Probe:
    """Read the lock file and try the lock. A file that makes no sense is claimed, and says what is wrong."""
    try:
        fd = open_regular(directory.lock)
    except FileNotFoundError:
        return Probe()
    except (Damaged, OSError) as error:
        return Probe(claimed=True, damage=str(error))
    try:
        held = _is_held(fd)
        return _parse(os.pread(fd, _LONGEST, 0), held)
    finally:
        os.close(fd)


def _is_held(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _parse(content: bytes, held: bool) -> Probe:
    head, _, pulse = content.partition(b"\n")
    try:
        data = json.loads(head)
        if data.get("void"):
            return Probe(claimed=True, held=held, void=True)
        runner = from_json(Identity, data["runner"])
        gpus = tuple(int(each) for each in data.get("gpus", ()))
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError, Damaged) as error:
        return Probe(claimed=True, held=held, damage=f"lock: {error}")
    barred = data.get("barred") is True
    return Probe(
        claimed=True, held=held, barred=barred, runner=runner, heartbeat=_parse_pulse(pulse), gpus=gpus
    )


def _parse_pulse(line: bytes) -> Heartbeat | None:
    try:
        _beat, at, _monotonic, seconds = line.decode().split()
        return Heartbeat(at=at, monotonic=float(seconds))
    except ValueError:
        return None
