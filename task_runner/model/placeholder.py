"""Placeholders: ``${name}`` in the strings of a template's task, and values put in their places.

Rule 1: a string that is one placeholder and nothing else becomes the value: a number stays a number. Where only text
        makes sense (an argument, a variable, a tag) it becomes its text, as it does inside of other text.
Rule 2: in a line for a shell every value is quoted, whatever it is; see shellline.py for where it may stand.
Rule 3: what a value holds is not looked into again: it cannot bring in another placeholder.
Rule 4: ``$${`` is the text ``${``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from task_runner.model import shellline
from task_runner.model.template import Value

#: where something stands: names of fields and places in lists
Path = tuple[str | int, ...]
#: where, and what is wrong
Fault = tuple[Path, str]

_TOKEN = re.compile(r"\$\$\{|\$\{([^{}]*)\}|\$\{")
#: fields of `process`, which may stand at the top in the short form
_TEXTS = ("command", "env", "stdin", "workingDirectory")
_TEXT_PATHS = [(name,) for name in _TEXTS]


@dataclass(frozen=True, slots=True)
class Hole:
    """A placeholder."""

    name: str


class TooLong(ValueError):
    """The task would become larger than allowed."""


def split(text: str) -> list[str | Hole]:
    """Text and placeholders in their order. Raises ValueError."""
    parts: list[str | Hole] = []
    position = 0
    for match in _TOKEN.finditer(text):
        parts.append(text[position : match.start()])
        position = match.end()
        if match[0] == "$${":
            parts.append("${")
        elif match[1] is not None:
            parts.append(Hole(match[1]))
        else:
            raise ValueError("a placeholder that begins with ${ does not end; for the text itself write $${")
    return [part for part in (*parts, text[position:]) if part != ""]


def check(task: Any, known: Sequence[str]) -> list[Fault]:
    """What is wrong with the placeholders of a task, whatever is put into them."""
    faults: list[Fault] = []
    for path, text in _strings(task, faults):
        try:
            parts = split(text)
        except ValueError as error:
            faults.append((path, str(error)))
            continue
        names = [part.name for part in parts if isinstance(part, Hole)]
        for name in dict.fromkeys(names):
            if name not in known:
                there_are = f"there are: {', '.join(known)}" if known else "there are none"
                hint = "for the text itself write $${"
                faults.append((path, f"${{{name[:100]}}} names no parameter ({there_are}); {hint}"))
        if names and _is_shell(path):
            found = shellline.fault("".join("\0" if isinstance(part, Hole) else part for part in parts))
            if found is not None or "\0" in text:
                faults.append((path, found or "it holds a NUL character"))
    return faults


def fill(task: Any, values: Mapping[str, Value], *, most: int) -> tuple[Any, list[Fault]]:
    """A task that `check` found nothing wrong with, with values in place; and what is wrong with it with these.

    ``most``: characters that the values may add. Raises TooLong.
    """
    left = most

    def put(path: Path, text: str) -> Any:
        nonlocal left
        parts = split(text)
        if len(parts) == 1 and isinstance(parts[0], Hole) and not _is_text(path):
            return values[parts[0].name]
        form = shellline.quote if _is_shell(path) else str
        filled = [form(_text(values[part.name])) if isinstance(part, Hole) else part for part in parts]
        left -= sum(map(len, filled)) - len(text)
        if left < 0:
            raise TooLong(f"with these values the task is more than {most} characters longer than its template")
        return "".join(filled)

    filled = _mapped(task, (), put)
    return filled, list(_spliced(task, filled))


def holes_at(task: Any) -> dict[Path, list[str]]:
    """Where placeholders stand, and which. The task has been checked."""
    found = ((path, [part.name for part in split(text) if isinstance(part, Hole)]) for path, text in _strings(task))
    return {path: names for path, names in found if names}


def _text(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _mapped(value: Any, path: Path, put: Callable[[Path, str], Any]) -> Any:
    if isinstance(value, str):
        return put(path, value) if "${" in value else value
    if isinstance(value, dict):
        return {name: _mapped(each, (*path, name), put) for name, each in value.items()}
    if isinstance(value, list):
        return [_mapped(each, (*path, index), put) for index, each in enumerate(value)]
    return value


def _strings(value: Any, faults: list[Fault] | None = None, path: Path = ()) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        if "${" in value:
            yield path, value
    elif isinstance(value, dict):
        for name, each in value.items():
            if faults is not None and "${" in name:
                faults.append(((*path, name), "a placeholder can stand in a value, and not in the name of a field"))
            yield from _strings(each, faults, (*path, name))
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _strings(each, faults, (*path, index))


# -- what stands where


def _in_action(path: Path) -> Path:
    """The path below an action's parameters; empty elsewhere."""
    if len(path) > 3 and path[0] in ("actions", "cleanup") and path[2] == "parameters":
        return path[3:]
    if path[:1] == ("parameters",):
        return path[1:]
    return path if path[:1] == ("shell",) or path[0] in _TEXTS else ()


def _is_shell(path: Path) -> bool:
    # of whatever machine: which one it is may be a placeholder itself
    return _in_action(path) == ("shell",)


def _is_text(path: Path) -> bool:
    inside = _in_action(path)
    if path[0] in ("actions", "cleanup") and path[2:] == ("name",):
        return True
    return _is_shell(path) or inside[:1] in _TEXT_PATHS or path[:1] == ("tags",) or path in (("name",), ("entity",))


def _spliced(task: dict[str, Any], filled: dict[str, Any]) -> Iterator[Fault]:
    """Placeholders in the command lines of shells that are started as programs."""
    for path, raw, parameters in _parameters(task, filled):
        command, raw_command = parameters.get("command"), raw.get("command")
        if not isinstance(command, list) or not isinstance(raw_command, list):
            continue
        words = [word if isinstance(word, str) else "" for word in command]
        for index in shellline.scripts(words):
            if _has_hole(raw_command[index]):
                yield (*path, "command", index), shellline.SPLICED
        if shellline.reads_script(words) and _has_hole(raw.get("stdin")):
            yield (*path, "stdin"), shellline.SPLICED


def _parameters(task: dict[str, Any], filled: dict[str, Any]) -> Iterator[tuple[Path, dict[str, Any], dict[str, Any]]]:
    """The parameters of every action, in whatever form, as they were and as they are."""
    yield (), task, filled
    pairs: list[tuple[Path, Any, Any]] = [((), task, filled)]
    for name in ("actions", "cleanup"):
        both = task.get(name), filled.get(name)
        if isinstance(both[0], list):
            pairs += [((name, i), *each) for i, each in enumerate(zip(both[0], both[1] or (), strict=True))]
    for path, raw, done in pairs:
        if isinstance(raw, dict) and isinstance(raw.get("parameters"), dict):
            yield (*path, "parameters"), raw["parameters"], done["parameters"]


def _has_hole(value: Any) -> bool:
    return isinstance(value, str) and any(isinstance(part, Hole) for part in split(value))
