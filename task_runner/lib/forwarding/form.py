"""What a line of output looks like on its way: RFC 5424 for a syslog server, the native protocol for the journal.

The bytes of a line go as the command wrote them. RFC 5424 allows any; UTF-8 has to be marked as such, by a byte order
mark, and what is plain ASCII needs none.

The name of the structured data has the enterprise number 32473, which RFC 5612 sets aside for examples: this program
has no number of its own, and a receiver looks for the name.
"""

from __future__ import annotations

from typing import Protocol

from task_runner.lib.clock import stamp
from task_runner.lib.forwarding.lines import Line
from task_runner.lib.forwarding.order import Origin
from task_runner.model.walls import Logging

SD_ID = "taskRunner@32473"
#: bytes of a whole message: RFC 5426 wants receivers to take so many, and RFC 5425 so many
LONGEST_DATAGRAM, LONGEST_FRAME = 2048, 8192
#: bytes of a line that go into one entry of the journal
LONGEST_ENTRY = 512 * 1024
#: characters of the tag (APP-NAME), and of the machine's name (HOSTNAME)
_TAG, _HOST = 48, 255
#: of streams, as syslog numbers them: err for stderr, info for all else
_SEVERITY = {"stderr": 3}
_INFO = 6
_BOM = b"\xef\xbb\xbf"


class Form(Protocol):
    """How lines are written for one kind of target."""

    #: bytes of a line that there is room for
    room: int

    def encode(self, line: Line, time: float) -> bytes:
        """``time``: when the line came."""


def tag(logging: Logging, origin: Origin) -> str:
    """Prefix, name or id, suffix; where that is too long the middle is shortened."""
    prefix, suffix = logging.tag_prefix, logging.tag_suffix
    room = _TAG - len(prefix) - len(suffix)
    return prefix + _printable(origin.name or origin.task_id)[:room] + suffix


def _printable(text: str) -> str:
    """ASCII without blanks, which is all that a header may have."""
    return "".join(each if "!" <= each <= "~" else "_" for each in text)


def severity(stream: str) -> int:
    return _SEVERITY.get(stream, _INFO)


class SyslogForm:
    """RFC 5424. PROCID is the task's id, which groups the messages of a task; MSGID is the stream."""

    def __init__(self, logging: Logging, origin: Origin, longest: int, *, counted: bool) -> None:
        """``longest``: bytes of a message. ``counted``: octets are counted in front of it (RFC 6587), as streams
        need it."""
        assert logging.syslog is not None
        self._facility = logging.syslog.facility
        self._counted = counted
        self._origin = origin
        host = _printable(origin.host)[:_HOST] or "-"
        self._names = f"{host} {tag(logging, origin)} {origin.task_id}"
        self._at = (0.0, b"")
        self._tails: dict[tuple[str, int | None], bytes] = {}
        most = len("<191>1 ") + len(stamp(0.0)) + len(self._tail("output", 10**6, 10**9))
        self.room = longest - most - len(_BOM)

    def encode(self, line: Line, time: float) -> bytes:
        log = line.reader.log
        if self._at[0] != time:
            self._at = (time, stamp(time).encode())  # the same for all lines that came at once
        priority = self._facility * 8 + severity(log.stream)
        mark = _BOM if _is_marked(line.text) else b""
        message = b"<%d>1 %b%b%b%b" % (priority, self._at[1], self._tail_of(line), mark, line.text)
        return b"%d %b" % (len(message), message) if self._counted else message

    def _tail_of(self, line: Line) -> bytes:
        """What of the head follows the time."""
        log = line.reader.log
        stream, action = log.stream, log.action(line.start)
        if not line.last or line.part > 1:
            return self._tail(stream, action, line.part)
        if (stream, action) not in self._tails:
            self._tails[stream, action] = self._tail(stream, action, None)
        return self._tails[stream, action]

    def _tail(self, stream: str, action: int | None, part: int | None) -> bytes:
        return f" {self._names} {stream} [{SD_ID}{self._data(stream, action, part)}] ".encode("utf-8", "replace")

    def _data(self, stream: str, action: int | None, part: int | None) -> str:
        origin = self._origin
        found = {
            "taskId": origin.task_id,
            "attempt": origin.attempt,
            "action": action,
            "stream": stream,
            "entity": origin.entity,
            "batch": origin.batch,
            "part": part,
        }
        return "".join(f' {name}="{_escaped(str(value))}"' for name, value in found.items() if value is not None)


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def _is_marked(text: bytes) -> bool:
    """Whether it is UTF-8 and not plain ASCII."""
    if text.isascii():
        return False
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


class JournalForm:
    """The native protocol of systemd-journald."""

    room = LONGEST_ENTRY

    def __init__(self, logging: Logging, origin: Origin) -> None:
        fields: dict[str, str | int | None] = {
            "SYSLOG_IDENTIFIER": tag(logging, origin),
            "TASK_RUNNER_TASK_ID": origin.task_id,
            "TASK_RUNNER_ATTEMPT": origin.attempt,
            "TASK_RUNNER_NAME": origin.name,
            "TASK_RUNNER_ENTITY": origin.entity,
            "TASK_RUNNER_BATCH": origin.batch,
        }
        self._same = _fields(fields)

    def encode(self, line: Line, time: float) -> bytes:  # noqa: ARG002  the journal keeps a time of its own
        log = line.reader.log
        fields: dict[str, str | int | None] = {
            "PRIORITY": severity(log.stream),
            "TASK_RUNNER_STREAM": log.stream,
            "TASK_RUNNER_ACTION": log.action(line.start),
            "TASK_RUNNER_PART": None if line.last and line.part == 1 else line.part,
        }
        return b"%b%bMESSAGE=%b\n" % (self._same, _fields(fields), line.text)


def _fields(found: dict[str, str | int | None]) -> bytes:
    """One a line. None of the values has a line feed: names are of printable characters."""
    lines = (f"{name}={value}\n" for name, value in found.items() if value is not None)
    return "".join(lines).encode("utf-8", "replace")
