"""The script of the `echo` machine: Tessia's little language, parsed.

One statement a line; words are separated by blanks, `#` begins a comment, keywords ignore case::

    use shared|exclusive NAME …     hold these locks while the script runs
    echo TEXT                       print a line
    log LEVEL TEXT                  print a line with a level
    sleep SECONDS
    return N                        end with exit code N
    raise                           end as if by a fault of the machine
    cleanup                         the lines after this one always run

The language is that of tessia-project/tessia-mesh (task_runner, machines/echo); the code is not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from task_runner.errors import FieldError, InvalidRequest

LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
#: the longest script taken, in lines
MAX_LINES = 10_000


@dataclass(frozen=True, slots=True)
class Statement:
    """One line that does something."""

    line: int
    word: str
    text: str = ""
    #: seconds of a sleep, exit code of a return
    number: float = 0


@dataclass(frozen=True, slots=True)
class Script:
    """A script that has been checked from end to end."""

    shared: list[str] = field(default_factory=list)
    exclusive: list[str] = field(default_factory=list)
    main: list[Statement] = field(default_factory=list)
    cleanup: list[Statement] = field(default_factory=list)


def parse(parameters: object) -> Script:
    """Parse a script, given as one string or as a list of lines.

    Raises InvalidRequest with one FieldError for every bad line; the field is "line N".
    """
    script, faults = Script(), list[FieldError]()
    target = script.main
    for number, line in enumerate(_lines(parameters), 1):
        word, _, rest = line.split("#", 1)[0].strip().partition(" ")
        word, rest = word.lower(), rest.strip()
        try:
            if word == "cleanup":
                _require(not rest, "cleanup takes no argument")
                _require(target is script.main, "cleanup stands once in a script")
                target = script.cleanup
            elif word == "use":
                _require(target is script.main, "use is not allowed after cleanup")
                _use(script, rest)
            elif word:
                target.append(_statement(number, word, rest))
        except ValueError as error:
            faults.append(FieldError(f"line {number}", str(error)))
    if faults:
        raise InvalidRequest(fields=faults)
    return script


def _lines(parameters: object) -> Sequence[str]:
    lines = parameters.splitlines() if isinstance(parameters, str) else parameters
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise InvalidRequest.at("", "an echo script is a string, or a list of strings with one line each")
    if len(lines) > MAX_LINES:
        raise InvalidRequest.at("", f"the script has {len(lines)} lines, at most {MAX_LINES} are taken")
    return lines


def _require(condition: object, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _use(script: Script, rest: str) -> None:
    mode, *names = rest.split()
    held = {"shared": script.shared, "exclusive": script.exclusive}.get(mode.lower()) if rest else None
    if held is None or not names:
        raise ValueError('use needs a mode and names: "use shared NAME …" or "use exclusive NAME …"')
    for name in names:
        _require(len(name.encode()) <= 200, f"the name {name[:20]}… is longer than 200 bytes")
        _require("\x00" not in name, "a name cannot hold NUL")
    held.extend(names)


def _statement(line: int, word: str, rest: str) -> Statement:
    if word == "echo":
        return Statement(line, word, text=rest)
    if word == "sleep":
        return Statement(line, word, number=_seconds(rest))
    if word == "return":
        return Statement(line, word, number=_exit_code(rest))
    if word == "raise":
        return Statement(line, word, text=rest)
    if word == "log":
        level, _, text = rest.partition(" ")
        _require(level.upper() in LEVELS, f"log needs a level, one of {', '.join(LEVELS)}")
        return Statement(line, word, text=f"{level.upper()}: {text.strip()}")
    raise ValueError(
        f"{word[:40]!r} is not a statement; these are: echo, sleep, log, return, raise, use, cleanup"
    )


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    _require(0 <= seconds <= 10 * 365 * 86_400, "sleep needs a number of seconds, 0 or more")
    return seconds


def _exit_code(text: str) -> int:
    _require(text.isascii() and text.isdigit() and int(text) <= 255, "return needs a number from 0 to 255")
    return int(text)
