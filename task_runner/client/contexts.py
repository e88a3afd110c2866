"""The daemons that this user has given names: `contexts.toml`.

    current = "lab"

    [contexts.lab]
    url = "https://lab.example:8443"
    token_file = "/home/ada/lab.token"     # or: token = "trt_…"

Whoever reads a token may run commands, and whoever writes an address is given the token: a file that others can read
though a token stands in it, or that others can write, is refused. Loaded only where there is such a file.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from task_runner.client.urls import split
from task_runner.errors import InvalidRequest

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
#: bytes of a file that holds a token and nothing else
_MOST = 4096
_HEAD = "# Written by `task-runner context`, which keeps no other comments.\n"


@dataclass(frozen=True, kw_only=True, slots=True)
class Context:
    """One daemon. At most one of ``token`` and ``token_file`` is there."""

    name: str
    url: str
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None

    def secret(self) -> str | None:
        """The token; None where none is told. Raises InvalidRequest where its file cannot be used."""
        if self.token_file is None:
            return self.token
        path = os.path.expanduser(self.token_file)
        try:
            with open(path, encoding="ascii") as file:
                if os.fstat(file.fileno()).st_mode & stat.S_IRWXO:
                    raise InvalidRequest(f"{path}: everybody can read this token; `chmod o= {path}` mends it")
                found = file.read(_MOST).strip()
        except OSError as error:
            raise InvalidRequest(f"the token of context {self.name}: {path}: {error.strerror}") from None
        except UnicodeDecodeError:
            found = ""
        if not found:
            raise InvalidRequest(f"the token of context {self.name}: there is none in {path}")
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class Contexts:
    """All of them, and which one is meant where nothing else is said."""

    path: str
    current: str | None = None
    by_name: Mapping[str, Context] = field(default_factory=dict)

    def get(self, name: str) -> Context:
        """Raises InvalidRequest, which says what there is."""
        if name not in self.by_name:
            known = ", ".join(self.by_name) or "none; `task-runner context add NAME URL` makes one"
            raise InvalidRequest(f"there is no context {name!r} in {self.path}; there are: {known}")
        return self.by_name[name]

    def default(self) -> Context | None:
        return None if self.current is None else self.get(self.current)

    def with_one(self, context: Context) -> Contexts:
        return replace(self, by_name={**self.by_name, context.name: context})

    def without(self, name: str) -> Contexts:
        rest = {each: context for each, context in self.by_name.items() if each != self.get(name).name}
        return replace(self, by_name=rest, current=None if self.current == name else self.current)


def load(path: str) -> Contexts:
    """What the file says; nothing where there is none. Raises InvalidRequest."""
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            found = _parsed(path, tomllib.load(file))
    except FileNotFoundError:
        return Contexts(path=path)
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"{path} is not TOML: {error}") from None
    if mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise InvalidRequest(f"{path}: others can write it; `chmod 600 {path}` mends that")
    if mode & (stat.S_IRWXG | stat.S_IRWXO) and any(each.token is not None for each in found.by_name.values()):
        raise InvalidRequest(f"{path}: others can read it, and there is a token in it; `chmod 600 {path}` mends that")
    return found


@contextmanager
def changing(path: str) -> Iterator[list[Contexts]]:
    """What the file says, in a list; what stands in it at the end is written. Two that change it wait for each other.

    **Crash.** The file is as it was, or as it is meant to be.
    """
    directory = os.path.dirname(path)
    try:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            held = [load(path)]
            yield held
            _write(held[0])
            os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise InvalidRequest(f"{directory}: {error.strerror}") from None


def _parsed(path: str, told: dict[str, Any]) -> Contexts:
    current, tables = told.pop("current", None), told.pop("contexts", {})
    if not isinstance(tables, dict) or not (current is None or isinstance(current, str)):
        raise InvalidRequest(f'{path}: "current" is a name, and "contexts" has a table for each')
    for name in told:
        raise InvalidRequest(f"{path}: {name!r} is unknown; there are: current, contexts")
    found = Contexts(path=path, current=current, by_name={name: _one(path, name, t) for name, t in tables.items()})
    found.default()  # or the name is not one of these
    return found


def _one(path: str, name: str, table: Any) -> Context:
    about = f"{path}: contexts.{name}"
    if not NAME.fullmatch(name):
        raise InvalidRequest(f"{about}: a name has letters, digits, and .-_ behind the first")
    if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
        raise InvalidRequest(f"{about}: it is a table of texts: url, token, token_file")
    for key in table:
        if key not in ("url", "token", "token_file"):
            raise InvalidRequest(f"{about}.{key} is unknown; there are: url, token, token_file")
    if "url" not in table:
        raise InvalidRequest(f"{about}: url is missing")
    if {"token", "token_file"} <= table.keys():
        raise InvalidRequest(f"{about}: token and token_file exclude each other")
    try:
        split(table["url"])
    except InvalidRequest as error:
        raise InvalidRequest(f"{about}.{error}") from None
    return Context(name=name, **table)


def _write(contexts: Contexts) -> None:
    path = os.path.realpath(contexts.path)  # a link stays one
    fd, temporary = tempfile.mkstemp(prefix=".contexts-", dir=os.path.dirname(path))  # 0600
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(_as_toml(contexts))
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _as_toml(contexts: Contexts) -> str:
    """A basic string of TOML is one of JSON, but for DEL, which neither an address nor a token has."""
    lines = [_HEAD] + ([f"current = {_quoted(contexts.current)}\n"] if contexts.current else [])
    for name, each in contexts.by_name.items():
        lines.append(f"\n[contexts.{_quoted(name)}]\n")
        told = {"url": each.url, "token": each.token, "token_file": each.token_file}
        lines += [f"{key} = {_quoted(value)}\n" for key, value in told.items() if value is not None]
    return "".join(lines)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
