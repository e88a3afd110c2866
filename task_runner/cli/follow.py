"""`task-runner logs` of several tasks: their lines, each with the task it is of.

Threads read, and the main one writes: a line is written as a whole, by one writer.
"""

from __future__ import annotations

import base64
import queue
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import click

from task_runner.cli import exitcode
from task_runner.cli.edge import report
from task_runner.cli.output import clean, emit, is_coloured
from task_runner.client import Client, Task
from task_runner.client.records import is_over
from task_runner.errors import TaskRunnerError

#: a line that is longer comes in pieces: it has to be held until its end is there
LONGEST_LINE = 1 << 20
#: pieces of output that are read ahead of the writing
AHEAD = 256
#: tasks that are read from at once; the others have their turn when one of these ends
AT_ONCE = 200
#: an id is shortened to no less, and a name for a prefix is no longer
SHORTEST_ID, LONGEST_NAME = 6, 24

_PALETTE = ("cyan", "yellow", "green", "magenta", "blue", "bright_red", "bright_cyan", "bright_yellow")
#: colours and the like (ECMA-48, SGR): they stay in what a terminal shows
_COLOURS = re.compile(rb"(\x1b\[[0-9;:]*m)")
_RESET = b"\x1b[0m"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for, of each task."""

    follow: bool
    tail: int | None = None
    attempt: int | None = None
    stream: str | None = None


def show(client: Client, tasks: Sequence[Task], wish: Wish, *, prefixed: bool, as_json: bool) -> int:
    """Print the output of several tasks; returns the exit code. Ends when all of it is there."""
    form = _json_lines if as_json else _plain(prefixes(tasks) if prefixed else {})
    code = exitcode.OK
    for task_id, found in _lines(client, tasks, wish):
        if isinstance(found, TaskRunnerError):
            report(found, about=task_id)
            code = code or exitcode.of_error(found)
        else:
            form(task_id, found)
    return code


def _plain(heads: dict[str, bytes]) -> Callable[[str, list[bytes]], None]:
    terminal = sys.stdout.isatty()

    def form(task_id: str, lines: list[bytes]) -> None:
        head = heads.get(task_id, b"")
        shown = map(tame, lines) if terminal else lines
        sys.stdout.buffer.write(b"".join(head + line for line in shown))
        sys.stdout.buffer.flush()

    return form


def _json_lines(task_id: str, lines: list[bytes]) -> None:
    for line in lines:
        line = line.removesuffix(b"\n")
        try:
            emit({"taskId": task_id, "text": line.decode()})
        except UnicodeDecodeError:
            emit({"taskId": task_id, "base64": base64.b64encode(line).decode()})


# -- what stands before a line


def prefixes(tasks: Sequence[Task]) -> dict[str, bytes]:
    """A prefix for each task, all of one width, in colours on a terminal."""
    labels = _labels(tasks)
    width = max(map(len, labels.values()), default=0)
    coloured = is_coloured()
    found = {}
    for number, (task_id, label) in enumerate(labels.items()):
        painted = f"{label:<{width}} |"
        painted = click.style(painted, fg=_PALETTE[number % len(_PALETTE)]) if coloured else painted
        found[task_id] = f"{painted} ".encode()
    return found


def _labels(tasks: Sequence[Task]) -> dict[str, str]:
    """Their names, where all have one and no two the same; else as much of their ids as tells them apart."""
    names = [clean(task["name"] or "") for task in tasks]
    ids = [task["taskId"] for task in tasks]
    if all(names) and len(set(names)) == len(names) and max(map(len, names), default=0) <= LONGEST_NAME:
        return dict(zip(ids, names, strict=True))
    length = next((n for n in range(SHORTEST_ID, 64) if len({each[:n] for each in ids}) == len(set(ids))), 64)
    return {each: each[:length] for each in ids}


def tame(line: bytes) -> bytes:
    """A line for a terminal on which others are shown, too: colours stay and end with it, nothing else steers."""
    body = line.rstrip(b"\r\n")
    parts = _COLOURS.split(body)
    shown = b"".join(part if i % 2 else _harmless(part) for i, part in enumerate(parts))
    return shown + (_RESET if len(parts) > 1 else b"") + b"\n"


def _harmless(part: bytes) -> bytes:
    words = part.decode(errors="replace")
    return words.encode() if words.isprintable() else b"\t".join(clean(each).encode() for each in words.split("\t"))


# -- reading


Found = tuple[str, list[bytes] | TaskRunnerError]


def _lines(client: Client, tasks: Sequence[Task], wish: Wish) -> Iterator[Found]:
    """Whole lines of each task, or the error that ended its reading."""
    # without following one after the other; else what can still write, and then what is over
    if not wish.follow:
        for task in tasks:
            yield from _lines_of(client, task["taskId"], wish)
        return
    waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    for task in sorted(tasks, key=is_over):
        waiting.put(task["taskId"])
    ready: queue.Queue[Found | None] = queue.Queue(AHEAD)
    readers = min(len(tasks), AT_ONCE)
    for _ in range(readers):
        waiting.put(None)
        # daemons: who is interrupted does not wait for them, and nothing of theirs needs an end
        threading.Thread(target=_read, args=(client, waiting, ready, wish), daemon=True).start()
    while readers:
        found = ready.get()
        if found is None:
            readers -= 1
        else:
            yield found


def _read(
    client: Client, waiting: queue.SimpleQueue[str | None], ready: queue.Queue[Found | None], wish: Wish
) -> None:
    while (task_id := waiting.get()) is not None:
        for found in _lines_of(client, task_id, wish):
            ready.put(found)
    ready.put(None)


def _lines_of(client: Client, task_id: str, wish: Wish) -> Iterator[Found]:
    try:
        chunks = client.iter_output(
            task_id, follow=wish.follow, tail=wish.tail, attempt=wish.attempt, stream=wish.stream
        )
        with closing(chunks):
            for lines in whole_lines(chunks):
                yield task_id, lines
    except TaskRunnerError as error:
        yield task_id, error


def whole_lines(chunks: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Lines with their ends, as soon as they are whole; the last one gets an end, if it has none."""
    rest = bytearray()
    for chunk in chunks:
        rest += chunk
        *lines, tail = rest.split(b"\n") if b"\n" in chunk else [rest]
        if lines:
            yield [bytes(line) + b"\n" for line in lines]
            rest = bytearray(tail)
        if len(rest) > LONGEST_LINE:
            yield [bytes(rest) + b"\n"]
            rest.clear()
    if rest:
        yield [bytes(rest) + b"\n"]
