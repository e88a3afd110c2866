"""What the fields of the model mean: the `#:` comment above each of them, which is said nowhere else."""

from __future__ import annotations

import dataclasses
import inspect
import linecache
import re
import typing
from collections.abc import Iterator
from typing import Any

from task_runner.model.constraints import camel

_FIELD = re.compile(r"^    (\w+): ")
_COMMENT = re.compile(r"^    #: (.*)")


def meanings(cls: type[Any]) -> dict[str, str]:
    """The comment above each field, as one line. Nothing, where the source was not installed."""
    found: dict[str, str] = {}
    comment: list[str] = []
    for line in _source(cls):
        if match := _COMMENT.match(line):
            comment.append(match[1])
        elif match := _FIELD.match(line):
            found[match[1]] = " ".join(comment)
            comment = []
        else:
            comment = []
    return found


def _source(cls: type[Any]) -> Iterator[str]:
    # inspect.getsource parses the whole module for each class
    try:
        lines = linecache.getlines(inspect.getsourcefile(cls) or "")
    except (OSError, TypeError):
        return
    inside = False
    for line in lines:
        if inside and line[:1] not in "\n #)":
            return
        inside = inside or bool(re.match(rf"class {cls.__name__}\b", line))
        if inside:
            yield line


def with_meanings(schema: dict[str, Any], cls: type[Any]) -> dict[str, Any]:
    """A JSON schema of a record, with what its fields mean, and those of the records in it."""
    records = {each.__name__: each for each in _reached(cls, set())}
    parts = schema.get("$defs", {})
    more = {name: _told(part, records[name]) for name, part in parts.items() if name in records}
    return _told({**schema, **({"$defs": {**parts, **more}} if parts else {})}, cls)


def _told(schema: dict[str, Any], cls: type[Any]) -> dict[str, Any]:
    texts = {camel(name): text for name, text in meanings(cls).items() if text}
    if "properties" not in schema:
        return schema
    properties = {
        name: {**each, "description": texts[name]} if name in texts else each
        for name, each in schema["properties"].items()
    }
    return {**schema, "properties": properties}


def _reached(cls: Any, seen: set[Any]) -> Iterator[type[Any]]:
    """The records that values of a type may be made of."""
    if cls in seen:
        return
    seen.add(cls)
    if dataclasses.is_dataclass(cls) and isinstance(cls, type):
        yield cls
        for hint in typing.get_type_hints(cls).values():
            yield from _reached(hint, seen)
    for hint in typing.get_args(cls):
        if isinstance(hint, type) or typing.get_origin(hint) is not None:
            yield from _reached(hint, seen)
