"""A file with a task on every line: as JSON, or as a command. Pure: what is wrong is named by its line."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from task_runner.errors import FieldError, InvalidRequest

#: so many kinds of faults are told
MOST_FAULTS = 20
#: so many lines are named that have the same one
_NAMED = 5
#: what an array of tasks begins with; `[ -e x ]` is a command
_ARRAY = re.compile(r"\[\s*(\{|\]|$)")
#: no shell runs it, and as a command it would fail
_AMONG = "this looks like a task as JSON, and the first line is a command (or say --format commands)"
_TASK = re.compile(r"tasks\.([0-9]+)(?:\.(.*))?", re.DOTALL)


class Line(NamedTuple):
    """A line that says something."""

    number: int
    text: str


def read(data: bytes) -> list[Line]:
    """The lines of a file that are not blank. Raises InvalidRequest where it is not text."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise InvalidRequest.at(f"line {number}", "it is not UTF-8") from None
    found = (Line(number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
    return [line for line in found if line.text]


def kind_of(lines: Sequence[Line]) -> str:
    """"json" or "commands", by the first character. Raises InvalidRequest for what is neither, but nearly."""
    if not lines or lines[0].text.startswith("{"):
        return "json"
    if _ARRAY.match(lines[0].text):
        raise InvalidRequest(
            "this looks like an array of tasks, not like one on each line: `task-runner batch create` takes it "
            "(or say --format commands)"
        )
    if among := [(line.number, _AMONG) for line in lines if line.text.startswith('{"')]:
        raise _refusal(among)
    return "commands"


def json_tasks(lines: Iterable[Line]) -> list[dict[str, Any]]:
    """A task of each line. Raises InvalidRequest, which names all lines that are none."""
    found, faults = list[dict[str, Any]](), list[tuple[int, str]]()
    for line in lines:
        try:
            task = json.loads(line.text)
            json.dumps(task, ensure_ascii=False, allow_nan=False).encode()  # as it will be sent
        except (ValueError, RecursionError) as error:
            faults.append((line.number, f"it is not JSON: {error}"))
            continue
        if isinstance(task, dict):
            found.append(task)
        else:
            faults.append((line.number, "a task is a JSON object"))
    if faults:
        raise _refusal(faults)
    return found


def commands(lines: Iterable[Line]) -> list[Line]:
    """Those that are no comments."""
    return [line for line in lines if not line.text.startswith("#")]


def command_tasks(
    lines: Iterable[Line], task: Callable[[tuple[str, ...]], dict[str, Any]], *, split: bool
) -> list[dict[str, Any]]:
    """What ``task`` makes of each line; ``split``: of its words. Raises InvalidRequest."""
    found, faults = list[dict[str, Any]](), list[tuple[int, str]]()
    for line in lines:
        try:
            words = tuple(shlex.split(line.text)) if split else (line.text,)
        except ValueError as error:
            faults.append((line.number, str(error)))
        else:
            found.append(task(words))
    if faults:
        raise _refusal(faults)
    return found


def in_lines(error: InvalidRequest, numbers: Sequence[int]) -> InvalidRequest:
    """The refusal of a batch with the lines of the file in place of the places in the batch."""
    faults, others = list[tuple[int, str]](), list[FieldError]()
    for fault in error.fields:
        match = _TASK.fullmatch(fault.field)
        if match is None or int(match[1]) >= len(numbers):
            others.append(fault)
        else:
            faults.append((numbers[int(match[1])], f"{match[2]}: {fault.message}" if match[2] else fault.message))
    if not faults:
        return error
    return _refusal(faults, others)


def _refusal(faults: Sequence[tuple[int, str]], others: Sequence[FieldError] = ()) -> InvalidRequest:
    """All of it, each fault once with the lines that have it."""
    lines: dict[str, list[int]] = {}
    for number, message in faults:
        lines.setdefault(message, []).append(number)
    fields = [*others, *(FieldError(_named(numbers), message) for message, numbers in lines.items())]
    if (more := len(fields) - MOST_FAULTS) > 0:
        fields = [*fields[:MOST_FAULTS], FieldError("", f"and {more} more")]
    return InvalidRequest("nothing was handed in", fields)


def _named(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"line {numbers[0]}"
    more = f" and {len(numbers) - _NAMED} more" if len(numbers) > _NAMED else ""
    return f"lines {', '.join(map(str, numbers[:_NAMED]))}{more}"
