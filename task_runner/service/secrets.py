"""The secrets that this server knows by name: files of one directory, and variables of the daemon's environment.

Values are read when they are needed, so that one that was changed is the new one from the next launch on. They go to
runners and into signatures. Nothing else may hold them: no error, no log, no answer, no file of ours.
"""

from __future__ import annotations

import errno
import hmac
import logging
import os
import re
import stat
from collections.abc import Iterator, Mapping
from typing import Any

from task_runner.environment.base import SECRET_VARIABLE
from task_runner.errors import FieldError, NotFound, Refused
from task_runner.model.spec import Action, Spec
from task_runner.model.terms import LEAST_MASKED
from task_runner.service.nearest import did_you_mean

log = logging.getLogger(__name__)

#: no secret is longer
MOST_BYTES = 65_536

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class Secrets:
    """``directory``: a file for each secret, named as the secret is. ``environ``: TASK_RUNNER_SECRET_DB_PASSWORD holds
    the secret `db-password`. A file comes before a variable. Raises Refused where there is no such directory."""

    def __init__(self, directory: str | None, environ: Mapping[str, str]) -> None:
        self._directory = directory
        self._variables = dict(_variables(environ))
        if directory is not None:
            try:
                found = self._files()
            except OSError as error:
                raise Refused(f"secrets_dir: {directory}: {error.strerror}") from None
            for name in found:
                self._warn_of_mode(name)

    def names(self) -> dict[str, str]:
        """The names of all secrets, in order, and where each is kept: "file" or "environment"."""
        try:
            files = self._files()
        except OSError:
            files = []  # the directory is gone; each launch that needs it says so
        found = dict.fromkeys(self._variables, "environment") | dict.fromkeys(files, "file")
        return dict(sorted(found.items()))

    def value(self, name: str) -> str:
        """The value as it is now. Raises NotFound, which says why there is none."""
        path = self._path(name)
        if path is not None:
            try:
                return _text(_read(path))
            except FileNotFoundError:
                pass
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else str(error)
                raise NotFound(f"the secret {name!r} cannot be used: {reason}") from None
        if name in self._variables:
            try:
                return _text(self._variables[name].encode("utf-8", "surrogateescape"))
            except ValueError as error:
                raise NotFound(f"the secret {name!r} cannot be used: {error}") from None
        raise NotFound(f"the server knows no secret {name!r}{did_you_mean(name, self.names())}")

    def name_of(self, value: str) -> str | None:
        """The name of a secret that has this value, the first in order. Blocks: it reads them all."""
        wanted = value.encode()
        for name in self.names():
            try:
                if hmac.compare_digest(self.value(name).encode(), wanted):
                    return name
            except NotFound:  # it cannot be used, whatever it holds
                continue
        return None

    def check(self, spec: Spec, _token: str = "") -> list[FieldError]:
        """What is wrong with the secrets that a spec names."""
        faults = list[FieldError]()
        for field, name in named(spec):
            try:
                value = self.value(name)
            except NotFound as error:
                faults.append(FieldError(field, str(error)))
                continue
            if spec.mask_secrets and not _for_server(field) and len(value.encode()) < LEAST_MASKED:
                fault = f"the value of {name!r} is too short to be masked (maskSecrets): less than {LEAST_MASKED} bytes"
                faults.append(FieldError(field, fault))
        return faults

    def grant(self, spec: Spec) -> dict[str, str]:
        """The values that a task's runner needs, by name. Raises NotFound, which names the one that is gone."""
        return {name: self.value(name) for field, name in named(spec) if not _for_server(field)}

    def _path(self, name: str) -> str | None:
        # a name that is no name would lead out of the directory
        return f"{self._directory}/{name}" if self._directory is not None and _NAME.fullmatch(name) else None

    def _files(self) -> list[str]:
        """What could be a secret. Mounts of container platforms are full of links, and of names with a dot before."""
        if self._directory is None:
            return []
        with os.scandir(self._directory) as entries:
            return [each.name for each in entries if _NAME.fullmatch(each.name) and each.is_file()]

    def _warn_of_mode(self, name: str) -> None:
        try:
            mode = os.stat(f"{self._directory}/{name}").st_mode
        except OSError:
            return
        if mode & 0o077:
            log.warning(
                "secrets_dir: %s/%s can be read by others (mode %o): chmod 600 it",
                self._directory,
                name,
                stat.S_IMODE(mode),
                extra={"action": "secret_readable"},
            )


def named(spec: Spec) -> list[tuple[str, str]]:
    """Every secret that a spec names, with the field that does."""
    found = [(f"secrets.{index}.name", each.name) for index, each in enumerate(spec.secrets)]
    for index, file in enumerate(spec.files):
        if file.fetch is not None:
            where = f"files.{index}.fetch"
            found += _given(f"{where}.passwordSecret", file.fetch.password_secret)
            found += _given(f"{where}.bearerSecret", file.fetch.bearer_secret)
            found += [(f"{where}.headerSecrets.{header}", name) for header, name in file.fetch.header_secrets.items()]
    found += [each for where, action in spec.every_action() for each in _of_action(where, action)]
    for index, hook in enumerate(spec.notify):
        found += _given(f"notify.{index}.secret", hook.secret)
    return found


def _of_action(where: str, action: Action) -> list[tuple[str, str]]:
    given: Any = action.parameters if isinstance(action.parameters, dict) else {}
    field = "bearerSecret"
    if action.machine == "container":
        given, field = given.get("registry") or {}, "registry.passwordSecret"
    elif action.machine != "download":
        return []
    name = given.get(field.rpartition(".")[2])
    return [(f"{where}.parameters.{field}", name)] if isinstance(name, str) else []


def _given(field: str, name: str | None) -> list[tuple[str, str]]:
    return [] if name is None else [(field, name)]


def _for_server(field: str) -> bool:
    """A webhook's secret is the server's alone to use: no runner gets it."""
    return field.startswith("notify.")


def _variables(environ: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for variable, value in environ.items():
        if variable.startswith(SECRET_VARIABLE):
            name = variable.removeprefix(SECRET_VARIABLE).lower().replace("_", "-")
            if _NAME.fullmatch(name):
                yield name, value
            else:
                log.warning("%s names no secret: a name begins with a letter or a digit", variable)


def _read(path: str) -> bytes:
    """The content of a regular file; links are followed. Raises OSError, ValueError."""
    # a FIFO would be waited for
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        data = b""
        while chunk := os.read(fd, MOST_BYTES + 2 - len(data)):
            data += chunk
        return data
    finally:
        os.close(fd)


def _text(data: bytes) -> str:
    """The value that stands in a file or a variable: one line feed at the end is not of it. Raises ValueError, whose
    words do not hold the value."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not text in UTF-8") from None
    text = text.removesuffix("\n")
    if len(text.encode()) > MOST_BYTES:
        raise ValueError(f"it is longer than {MOST_BYTES} bytes")
    if "\x00" in text:
        raise ValueError("it has a NUL byte in it")
    if not text:
        raise ValueError("it is empty")
    return text
