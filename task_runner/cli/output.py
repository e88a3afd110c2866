"""What people and programs read: JSON, tables, colours, durations."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any, TypeVar

import click

from task_runner.cli.encoding import is_utf8

F = TypeVar("F", bound=Callable[..., Any])

#: rows that decide how wide the columns are
MEASURED = 500

json_option: Callable[[F], F] = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def emit(value: Any) -> None:
    """Print one JSON value on a line."""
    click.echo(_json(value))


def emit_array(values: Iterable[Any]) -> None:
    """Print a JSON array, an element a line, without ever holding all of it."""
    lead = "["
    for value in values:
        click.echo(lead + _json(value), nl=False)
        lead = ",\n "
    click.echo("]" if lead != "[" else "[]")


def _json(value: Any) -> str:
    """Where the encoding of the output does not have everything, JSON has escapes of its own."""
    return json.dumps(value, ensure_ascii=not is_utf8(sys.stdout.encoding))


def say(message: str) -> None:
    """A word to the person, beside the output."""
    click.echo(f"task-runner: {clean(message)}", err=True)


def paint(text: str, colour: str | None) -> str:
    """Coloured on a terminal that has colours, unless NO_COLOR is set."""
    return text if colour is None or not is_coloured() else click.style(text, fg=colour)


def is_coloured() -> bool:
    """Whether standard output is to have colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def clean(text: str) -> str:
    """Text of others without control characters: a task's name cannot steer the terminal."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    return {"\n": "\\n", "\t": "\\t"}.get(character) or character.encode("unicode_escape").decode()


Cell = tuple[str, str | None]


def table(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print rows of (text, colour) in columns; the last is as wide as the terminal, or as it likes."""
    source = iter(rows)
    first = list(islice(source, MEASURED))
    widths = [max(len(title), *(len(row[i][0]) for row in first), 0) for i, title in enumerate(header)]
    room = _room(widths)
    click.echo(_line([(title, None) for title in header], widths, room).rstrip())
    for row in _chain(first, source):
        click.echo(_line(row, widths, room))


def _chain(first: Iterable[Sequence[Cell]], rest: Iterator[Sequence[Cell]]) -> Iterator[Sequence[Cell]]:
    yield from first
    yield from rest


def _room(widths: Sequence[int]) -> int | None:
    """How much of the last column a line of this terminal holds."""
    if not sys.stdout.isatty():
        return None
    taken = sum(widths[:-1]) + 2 * (len(widths) - 1)
    return max(10, shutil.get_terminal_size().columns - taken)


def _line(row: Sequence[Cell], widths: Sequence[int], room: int | None) -> str:
    cells = [
        paint(text, colour) + " " * (width - len(text)) for (text, colour), width in zip(row[:-1], widths, strict=False)
    ]
    last, colour = row[-1]
    if room is not None and len(last) > room:
        last = last[: room - 1] + "…"
    return "  ".join([*cells, paint(last, colour)])


def duration(seconds: float | None) -> str:
    """0.2s, 4m12s, 3h05m, 2d04h; a dash where it is not known."""
    if seconds is None:
        return "-"
    seconds = max(0.0, seconds)
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    return f"{whole // 86_400}d{whole % 86_400 // 3600:02}h"


def size(count: float | None) -> str:
    """1.5 MiB; a dash where it is not known."""
    if count is None:
        return "-"
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def seconds_between(start: str | None, end: str | None, now: datetime) -> float | None:
    """From one stamp to another, or to now; None where it has not begun."""
    if start is None:
        return None
    return ((_parse(end) if end else now) - _parse(start)).total_seconds()


def now() -> datetime:
    return datetime.now(UTC)


def _parse(stamp: str) -> datetime:
    return datetime.fromisoformat(stamp)
