"""The forwarder: a process beside a task that sends lines of its output to a syslog server, to the journal, or both.

Rule 1: it follows the log, like every other reader. So it can hold up nobody, and breaks nothing when it breaks.
Rule 2: its runner tells it through a pipe which action begins where, and where the output ends. The end of that pipe
        is the end of the runner, however that came.
Rule 3: after that it has LAST_SECONDS. Then it writes down what got through and exits, whatever it waits for.

It is no child of the runner (lib/forwarding/hold.py), so nothing of it is waited for, stopped, frozen or counted with
the task.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import select
import time
from collections.abc import Sequence

from task_runner.errors import Damaged
from task_runner.lib.forwarding.form import LONGEST_DATAGRAM, LONGEST_FRAME, JournalForm, SyslogForm
from task_runner.lib.forwarding.lines import Log
from task_runner.lib.forwarding.order import FORMAT, Order
from task_runner.lib.forwarding.target import Target
from task_runner.lib.taskdir import read_control, write_control
from task_runner.model.walls import Logging, Transport

#: seconds after the end of the task, or of its runner, for what has not got through by then
LAST_SECONDS = 5.0
#: seconds between two looks at an output that grows, and at one of which the kernel cannot tell that it does
_BREATH, _LOOK = 0.02, 0.5
_IN_MODIFY = 2
_libc = ctypes.CDLL(None)


class Forwarder:
    """The process at work. ``control``: where the runner tells."""

    def __init__(self, order: Order, control: int) -> None:
        self._order = order
        self._control = control
        self._told = b""
        self._directory = _enter(order.directory)
        self._logs = [Log(path, stream, order.limit) for stream, path in order.files]
        self._targets = _targets(order, self._logs)
        self._bell = _watch(self._logs)
        self._deadline: float | None = None
        self._noted: list[str | None] = [None for _ in self._targets]
        self._resume()

    def run(self) -> None:
        """Forward until the task is over and all has got through, or the time is up."""
        grows = self._turn()
        while not self._over():
            self._wait(grows)
            grows = self._turn()
        for target in self._targets:
            target.close()
        while self._counting() and not self._late():
            pass
        self._note(final=True)

    def _resume(self) -> None:
        """Go on where the forwarder of an earlier runner of this attempt has stopped, if there was one."""
        try:
            note = json.loads(read_control(self._note_path))
            for log, state in zip(self._logs, note["logs"], strict=True):
                log.resume(state)
            for target, state in zip(self._targets, note["targets"], strict=True):
                target.resume(state)
        except FileNotFoundError:
            return
        except (OSError, Damaged, ValueError, KeyError, TypeError):
            pass  # lines may get there twice then
        self._note(final=False)

    @property
    def _note_path(self) -> str:
        # through the open directory: that of a task may have been removed, and its name be used again
        return f"/proc/self/fd/{self._directory}/{self._order.note}"

    def _over(self) -> bool:
        return self._deadline is not None and (self._late() or all(target.done for target in self._targets))

    def _late(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _turn(self) -> bool:
        """Do all that can be done now; returns whether the output grows."""
        # the size is asked for first: an action is announced before it can write
        grown = [log.grow(time.time()) for log in self._logs]
        if self._deadline is None:
            self._listen()
        counting = self._counting()
        now = time.monotonic()
        for target in self._targets:
            target.turn(now)
        self._note_trouble()
        return any(grown) or counting

    def _counting(self) -> bool:
        """Count lines, before the middle of a bounded output is freed; returns whether there are more."""
        return True in [log.count() for log in self._logs]

    # -- what the runner tells

    def _listen(self) -> None:
        try:
            while data := os.read(self._control, 4096):
                *lines, self._told = (self._told + data).split(b"\n")
                for line in lines:
                    self._obey(line.decode().split())
        except BlockingIOError:
            return
        if self._deadline is None:
            self._end([None for _ in self._logs])  # the runner has died

    def _obey(self, words: list[str]) -> None:
        """`action INDEX SIZE…` or `end SIZE…`."""
        if words[0] == "action":
            for log, offset in zip(self._logs, words[2:], strict=True):
                log.begin(int(words[1]), int(offset))
        else:
            self._end([int(size) for size in words[1:]])

    def _end(self, sizes: Sequence[int | None]) -> None:
        for log, size in zip(self._logs, sizes, strict=True):
            log.end(size)
        self._deadline = time.monotonic() + LAST_SECONDS
        for target in self._targets:
            target.hurry()

    # -- waiting

    def _wait(self, grows: bool) -> None:
        """Until something is worth a turn."""
        poll = select.poll()
        until = [self._deadline]
        for target in self._targets:
            if (wanted := target.waits_for()) is not None:
                poll.register(*wanted)
            until.append(target.due())
        now = time.monotonic()
        patience = [max(0.0, each - now) for each in until if each is not None]
        if self._deadline is not None:
            patience += [each for target in self._targets if (each := target.patience()) is not None]
        else:
            poll.register(self._control, select.POLLIN)
            if grows:
                patience.append(_BREATH)  # more is to be expected: one turn for all that comes until then
            elif self._bell < 0:
                patience.append(_LOOK)
            else:
                poll.register(self._bell, select.POLLIN)
        if any(target.busy for target in self._targets):
            patience.append(0.0)
        for fd, _event in poll.poll(min(patience) * 1000 if patience else None):
            if fd == self._bell:
                os.read(fd, 65536)

    # -- what got through

    def _note_trouble(self) -> None:
        errors = [target.error for target in self._targets]
        if errors != self._noted:
            self._noted = errors
            self._note(final=False)

    def _note(self, *, final: bool) -> None:
        lines = [log.lines() for log in self._logs]
        known = [count for count in lines if count is not None]
        total = sum(known) if len(known) == len(lines) else None
        note = {
            "format": FORMAT,
            "final": final,
            "lines": total,
            "missed": None if total is None else sum(total - each.delivered for each in self._targets),
            "targets": [each.state() for each in self._targets],
            "logs": [each.state() for each in self._logs],
        }
        try:
            write_control(self._note_path, json.dumps(note).encode() + b"\n")
        except OSError:
            pass  # then it is not known


def _enter(path: str) -> int:
    """Open the directory when no other forwarder has it: one whose runner is dead still has LAST_SECONDS."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    patience = time.monotonic() + 2 * LAST_SECONDS
    while time.monotonic() < patience:
        try:
            fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.1)
        else:
            break
    return directory


def _watch(logs: Sequence[Log]) -> int:
    """A descriptor that can be read when one of them grows; -1 where the kernel has none left for this user."""
    bell = int(_libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
    for log in logs:
        if bell >= 0 and _libc.inotify_add_watch(bell, f"/proc/self/fd/{log.fd}".encode(), _IN_MODIFY) < 0:
            os.close(bell)
            return -1
    return bell


def _targets(order: Order, logs: Sequence[Log]) -> list[Target]:
    # each kind is loaded where it is asked for
    found: list[Target] = []
    if order.logging.syslog is not None:
        found.append(_syslog(order, order.logging, logs))
    if order.logging.journald:
        from task_runner.lib.forwarding.datagram import Journal

        found.append(Journal(logs, JournalForm(order.logging, order.origin)))
    return found


def _syslog(order: Order, logging: Logging, logs: Sequence[Log]) -> Target:
    syslog = logging.syslog
    assert syslog is not None
    if syslog.transport is Transport.UDP:
        from task_runner.lib.forwarding.datagram import Udp

        form = SyslogForm(logging, order.origin, LONGEST_DATAGRAM, counted=False)
        return Udp(syslog.host, syslog.port, logs, form)
    from task_runner.lib.forwarding.stream import Bare, Stream

    form = SyslogForm(logging, order.origin, LONGEST_FRAME, counted=True)
    if syslog.transport is Transport.TCP:
        return Stream("tcp", syslog.host, syslog.port, logs, form, Bare)
    from task_runner.lib.forwarding.tls import Tls

    return Stream("tls", syslog.host, syslog.port, logs, form, lambda: Tls(syslog.host, order.authorities))
