"""What a machine says of how it gets on (machines/say.py), from the runner's side.

Rule 1: a pipe for every try, whose only writer is the machine's process. So what was said in one try is not heard in
        the next, and all that a dead machine has said is there before its death is.
Rule 2: what makes no sense is ignored, and nobody waits: a machine that floods the pipe is read a piece a turn.
Rule 3: the first ending counts. What is kept fits into the room that the last status has for it.
"""

from __future__ import annotations

import json
import os
import select
from dataclasses import dataclass, replace
from typing import Any, Protocol

from task_runner.errors import Damaged
from task_runner.lib import signals
from task_runner.model.codec import from_json, to_json
from task_runner.model.state import Event, Outcome
from task_runner.model.status import ContainerNote

#: bytes of a ContainerNote in the status
ROOM = 4096
#: characters of a text that a machine says
LONGEST_TEXT = 300
#: bytes of a line that are looked at
_LONGEST = 1 << 16
_CHUNK, _CHUNKS = 1 << 16, 4
_EVENTS = {"provisioning": Event.PROVISION, "running": Event.SPAWN}


@dataclass(frozen=True, kw_only=True, slots=True)
class Ending:
    """How what a machine ran has ended, in its words."""

    outcome: Outcome
    exit_code: int | None = None
    signal: str | None = None
    oom_killed: bool | None = None
    #: why it could not be started, or why nobody knows how it ended
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """One line."""

    event: Event | None = None
    paused: bool | None = None
    process: int | None = None
    container: ContainerNote | None = None
    ending: Ending | None = None


class Listener(Protocol):
    """Who acts on what is said."""

    def heard_event(self, event: Event) -> None:
        """It fetches what it needs (PROVISION), or what it was asked for runs (SPAWN)."""

    def heard_paused(self, paused: bool) -> None:
        """Everything of it is frozen, or goes on."""

    def heard_process(self, pid: int) -> None:
        """What it runs has this first process, of this machine."""

    def heard_news(self) -> None:
        """Its container or its ending is known, or known better."""


def parse(line: bytes) -> Said | None:
    """What a line says; None for one that makes no sense."""
    try:
        data = json.loads(line)
        return _parse(data) if isinstance(data, dict) else None
    except (ValueError, RecursionError, TypeError, Damaged):
        return None


def _parse(data: dict[str, Any]) -> Said | None:
    match data:
        case {"state": str(word)} if word in _EVENTS:
            return Said(event=_EVENTS[word])
        case {"paused": bool(paused)}:
            return Said(paused=paused)
        case {"process": int(pid)} if 0 < pid < 2**31 and type(pid) is int:
            return Said(process=pid)
        case {"container": dict(note)}:
            return Said(container=bounded(from_json(ContainerNote, note)))
        case {"ended": dict(how)}:
            return Said(ending=_ended(how))
        case {"failed": str(reason)}:
            return Said(ending=Ending(outcome=Outcome.FAILED, reason=reason))
        case {"lost": str(reason)}:
            return Said(ending=Ending(outcome=Outcome.LOST, reason=reason))
    return None


def _ended(how: dict[str, Any]) -> Ending:
    """Raises ValueError where it is neither an exit code nor a signal: that would be no known ending."""
    code, name, oom = how.get("exitCode"), how.get("signal"), how.get("oomKilled")
    if name is not None:
        name = signals.name_of(signals.parse(name)) if isinstance(name, str) else None
    if type(code) is not int and name is None:
        raise ValueError("no ending")
    return Ending(
        outcome=Outcome.SUCCEEDED if code == 0 and name is None else Outcome.FAILED,
        exit_code=code if type(code) is int else None,
        signal=name,
        oom_killed=oom if isinstance(oom, bool) else None,
    )


def bounded(note: ContainerNote) -> ContainerNote:
    """The note as far as there is room for it: what is least missed goes first."""
    if _size(note) <= ROOM:
        return note
    note = replace(note, limits=[replace(each, note=_cut(each.note)) for each in note.limits[:20]])
    if _size(note) > ROOM:
        note = replace(note, limits=[])
    if _size(note) > ROOM:
        note = replace(
            note,
            accounting=None,
            engine=_cut(note.engine) or "",
            name=_cut(note.name) or "",
            id=_cut(note.id),
            image=_cut(note.image) or "",
            image_id=_cut(note.image_id),
            output_note=_cut(note.output_note),
            stage=_cut(note.stage),
            error=_cut(note.error),
            exit_code=note.exit_code if note.exit_code is not None and abs(note.exit_code) < 2**31 else None,
            signal=_cut(note.signal),
        )
    return note


def _size(note: ContainerNote) -> int:
    return len(json.dumps(to_json(note)))


def _cut(text: str | None) -> str | None:
    if text is None:
        return None
    return "".join(each if each.isascii() and each.isprintable() else "?" for each in text[:100])


class Hearing:
    """The runner's ear: a pipe for the time of a try. `turn` never waits."""

    __slots__ = ("ending", "container", "running", "_poll", "_listener", "_reader", "_writer", "_rest", "_deaf")

    def __init__(self, poll: select.poll, listener: Listener) -> None:
        """``poll``: what the runner waits with."""
        self._poll = poll
        self._listener = listener
        self._reader = self._writer = -1
        self.expect()

    def expect(self) -> None:
        """Another try is about to start."""
        #: how the machine said that what it ran has ended
        self.ending: Ending | None = None
        self.container: ContainerNote | None = None
        #: it has said that what it was asked for runs
        self.running = False
        self._rest, self._deaf = b"", False

    def begin(self) -> int:
        """Make the pipe for a process; returns the end to write into. Raises OSError."""
        self.end()
        self._rest, self._deaf = b"", False
        self._reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self._writer, True)
        self._poll.register(self._reader, select.POLLIN)
        return self._writer

    def begun(self) -> None:
        """The process has its end; ours would keep the pipe open."""
        if self._writer >= 0:
            os.close(self._writer)
            self._writer = -1

    def end(self) -> None:
        """Let go of the pipe."""
        self.begun()
        self._hang_up()

    close = end

    def due(self) -> float | None:
        """Never by time."""
        return None

    def turn(self, now: float) -> None:
        """Take what has been said."""
        del now
        for _ in range(_CHUNKS):
            if self._reader < 0 or not self._read():
                return

    def _read(self) -> bool:
        """Take a piece; False where there is no more for now."""
        try:
            data = os.read(self._reader, _CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._hang_up()  # else the poll would not wait any more
            return False
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            if not self._deaf and (said := parse(line)) is not None:
                self._heed(said)
            self._deaf = False
        self._deaf = self._deaf or len(rest) > _LONGEST  # until this line ends
        self._rest = b"" if self._deaf else rest
        return True

    def _heed(self, said: Said) -> None:
        if said.container is not None:
            self.container = said.container
            self._listener.heard_news()
        elif self.ending is not None:
            pass  # it is over, and said
        elif said.event is not None:
            self.running = said.event is Event.SPAWN
            self._listener.heard_event(said.event)
        elif said.paused is not None:
            self._listener.heard_paused(said.paused)
        elif said.process is not None:
            self._listener.heard_process(said.process)
        elif said.ending is not None:
            self.ending = said.ending
            self._listener.heard_news()

    def _hang_up(self) -> None:
        if self._reader >= 0:
            self._poll.unregister(self._reader)
            os.close(self._reader)
            self._reader = -1
