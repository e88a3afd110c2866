"""Templates in a directory of the configuration: NAME.json or NAME.toml, read again when a file has changed.

A file that is broken makes its template unusable, and nothing else: it is listed with what is wrong, and logged once.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import stat
import tomllib
from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json, to_json

from task_runner.errors import InvalidRequest
from task_runner.lib.clock import stamp
from task_runner.model.template import Template
from task_runner.service.templateform import parse_template
from task_runner.service.validate import parse_json

log = logging.getLogger(__name__)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_KINDS = (".json", ".toml")
#: bytes of a template, wherever it comes from
MOST_BYTES = 262_144


@dataclass(frozen=True, kw_only=True, slots=True)
class Known:
    """A template by its name: usable, or broken."""

    name: str
    #: "store", or "directory"
    origin: str
    updated_at: str
    template: Template | None
    #: why it cannot be used
    error: str | None = None


class TemplateFiles:
    """The templates of a directory; none: there are none. May be asked by several threads."""

    def __init__(self, directory: str | None) -> None:
        self._directory = directory
        self._seen: dict[str, tuple[object, Known]] = {}

    def names(self) -> list[str]:
        """Of all of them, the broken ones, too."""
        if self._directory is None:
            return []
        try:
            found = [os.path.splitext(each) for each in os.listdir(self._directory)]
        except OSError as error:
            log.warning("templates_dir: %s: %s", self._directory, error.strerror)
            return []
        # what begins with a dot is an editor's, or a file on its way to its name
        return sorted({name for name, kind in found if kind in _KINDS and not name.startswith(".")})

    def find(self, name: str) -> Known | None:
        """The template of this name as its file is now; None: there is no such file."""
        if self._directory is None or "/" in name or name.startswith(".") or "\0" in name:
            return None
        marks = {kind: mark for kind in _KINDS if (mark := _mark(f"{self._directory}/{name}{kind}")) is not None}
        if not marks:
            self._seen.pop(name, None)
            return None
        seen = self._seen.get(name)
        if seen is None or seen[0] != marks:
            seen = self._seen[name] = (marks, self._read(name, list(marks), max(mark[0] for mark in marks.values())))
        return seen[1]

    def _read(self, name: str, kinds: list[str], modified: int) -> Known:
        template, error = None, None
        try:
            if NAME.fullmatch(name) is None:
                raise InvalidRequest("its name is not one for a template: letters, digits and `._-` are")
            if len(kinds) > 1:
                raise InvalidRequest(f"there are both {name}.json and {name}.toml: which of them is meant?")
            template = parse_template(_value(f"{self._directory}/{name}{kinds[0]}"))
        except (InvalidRequest, OSError, RecursionError) as fault:
            error = str(fault)
            log.warning("template %s in %s cannot be used: %s", name, self._directory, error)
        return Known(
            name=name, origin="directory", updated_at=stamp(modified / 1e9), template=template, error=error
        )


def _mark(path: str) -> tuple[int, int, int, int] | None:
    """What changes when a file does; None where there is none."""
    try:
        found = os.stat(path)
    except OSError as error:
        return None if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG) else (0, 0, 0, error.errno or 0)
    return (found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino)


def _value(path: str) -> Any:
    """The JSON value of a file. Raises InvalidRequest, OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with open(fd, "rb") as file:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise InvalidRequest("it is not a regular file")
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise InvalidRequest(f"it has more than {MOST_BYTES} bytes")
    if path.endswith(".json"):
        return parse_json(data)
    try:
        # a date becomes text, as it is in JSON
        return from_json(to_json(tomllib.loads(data.decode())), allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest(f"it is not TOML in UTF-8: {error}") from None
