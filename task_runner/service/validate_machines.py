"""What each machine wants of its parameters: their shape, and what no shape can say."""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from task_runner.errors import FieldError, InvalidRequest
from task_runner.model import echo, urls, workpath
from task_runner.model.machines import DownloadParameters, ExtractParameters, ProcessParameters
from task_runner.model.spec import Action
from task_runner.model.terms import Headers
from task_runner.model.walls import CONTAINER_GIVEN, ContainerParameters, Pull
from task_runner.service import inside
from task_runner.service.validate_record import Record

#: what execve takes, less some room
MAX_ARGUMENTS = 1_500_000
#: headers that say how a message is sent, which is not the client's to say
_OURS = {"connection", "content-length", "expect", "host", "range", "if-range", "te", "trailer", "transfer-encoding"}

Fault = tuple[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """A built-in machine: its parameters as a record, and faults that a record cannot see."""

    record: Record[Any]
    #: said where the parameters are no object
    expected: str
    #: faults of well-formed parameters: field ("" is all of them) and message
    check: Callable[[Any], Iterator[Fault]]


def _check_process(wanted: ProcessParameters) -> Iterator[Fault]:
    if (wanted.command is None) == (wanted.shell is None):
        yield "", 'give either "command" or "shell"'
    elif wanted.command is not None and not wanted.command[0]:
        yield "command.0", "the program has no name"
    if wanted.open_stdin and wanted.stdin is not None:
        yield "openStdin", 'cannot stand beside "stdin"; send the text with the first input instead'
    yield from inside.faults(wanted)
    strings = [*(wanted.command or ()), wanted.shell or "", *wanted.env, *wanted.env.values()]
    if sum(len(string.encode()) + 9 for string in strings) > MAX_ARGUMENTS:
        yield "", "command and env together are longer than the system takes (1.5 MB)"


def _check_download(wanted: DownloadParameters) -> Iterator[Fault]:
    try:
        found = urls.split(wanted.url, (*urls.HTTP, "file"))
        if wanted.path is None:
            urls.file_name(wanted.url)
    except ValueError as error:
        hint = '; say in "path" where it goes' if "name of a file" in str(error) else ""
        yield "url", f"{error}{hint}"
    else:
        yield from check_headers(wanted.headers)
        if found.scheme == "file" and (wanted.headers or wanted.bearer_secret):
            yield "headers" if wanted.headers else "bearerSecret", "a file of this machine is read without any"
        yield from check_credentials(
            [("url", found.username), ("bearerSecret", wanted.bearer_secret)], wanted.headers
        )
    if wanted.path is not None:
        yield from check_path("path", wanted.path, workpath.file_parts)


def _check_extract(wanted: ExtractParameters) -> Iterator[Fault]:
    yield from check_path("path", wanted.path, workpath.file_parts)
    yield from check_path("into", wanted.into, workpath.parts)


def _check_container(wanted: ContainerParameters) -> Iterator[Fault]:
    if wanted.command is not None and not wanted.command[0]:
        yield "command.0", "the program has no name"
    strings = [*(wanted.command or ()), *(wanted.args or ()), *wanted.env, *wanted.env.values()]
    if sum(len(string.encode()) + 9 for string in strings) > MAX_ARGUMENTS:
        yield "", "command, args and env together are longer than the system takes (1.5 MB)"
    for index, shown in enumerate(wanted.work_mounts):
        yield from check_path(f"workMounts.{index}.path", shown.path, workpath.file_parts)
    if wanted.registry is not None and wanted.pull is Pull.NEVER:
        yield "registry", 'is of no use beside "pull": "never"'
    targets = [("workAt", wanted.work_at)] if wanted.work_at is not None else []
    targets += [(f"mounts.{index}", each.target or each.source) for index, each in enumerate(wanted.mounts)]
    targets += [(f"workMounts.{index}", each.target) for index, each in enumerate(wanted.work_mounts)]
    seen = {"/": "the image itself", CONTAINER_GIVEN: "what the task gives it"}
    for field, target in targets:
        place = posixpath.normpath("/" + target.lstrip("/"))
        if place in seen or place.startswith(f"{CONTAINER_GIVEN}/"):
            yield field, f"inside, {place} is the place of {seen.get(place, seen[CONTAINER_GIVEN])}"
        seen[place] = field


def check_path(field: str, path: str, parts: Callable[[str], Any]) -> Iterator[Fault]:
    """A path below the working directory."""
    try:
        parts(path)
    except ValueError as error:
        yield field, str(error)


def check_headers(headers: Headers) -> Iterator[Fault]:
    """Headers of a request that the task makes."""
    seen: set[str] = set()
    for name, value in headers.items():
        lower = name.lower()
        if lower in _OURS:
            yield f"headers.{name}", "is set by the program itself"
        elif lower in seen:
            yield f"headers.{name}", "stands twice; upper and lower case are the same here"
        try:
            value.encode("latin-1")
        except UnicodeEncodeError:
            yield f"headers.{name}", "has characters in it that no header can hold (only Latin-1)"
        seen.add(lower)


def check_credentials(given: list[tuple[str, str | None]], headers: Headers) -> Iterator[Fault]:
    """Of several ways to say who asks, one; the later one of two is the fault."""
    used = [field for field, value in given if value is not None]
    used += [f"headers.{name}" for name in headers if name.lower() == "authorization"]
    for field in used[1:]:
        yield field, f"cannot stand beside the credentials in {used[0]}"


BUILT_IN = {
    "process": Machine(
        record=Record(ProcessParameters),
        expected='expected an object with "command" or "shell"',
        check=_check_process,
    ),
    "container": Machine(
        record=Record(ContainerParameters), expected='expected an object with "image"', check=_check_container
    ),
    "download": Machine(
        record=Record(DownloadParameters), expected='expected an object with "url"', check=_check_download
    ),
    "extract": Machine(
        record=Record(ExtractParameters), expected='expected an object with "path"', check=_check_extract
    ),
}
#: the script of `echo` is a language, and no record
ECHO_SCHEMA = {
    "anyOf": [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}, "maxItems": echo.MAX_LINES},
    ]
}
NAMES = ("process", "echo", *sorted(set(BUILT_IN) - {"process"}))


def check_action(action: Action, where: str, faults: list[FieldError]) -> None:
    """Add to ``faults`` what is wrong with the parameters of an action."""
    inside = f"{where}.parameters"
    if (machine := BUILT_IN.get(action.machine)) is not None:
        _check_built_in(machine, action.parameters, inside, faults)
        return
    try:
        if action.machine == "echo":
            echo.parse(action.parameters)
        elif (entry := _installed().get(action.machine)) is not None:
            entry.load().check(action.parameters)
        else:
            known = ", ".join([*NAMES, *_installed()])
            faults.append(FieldError(f"{where}.machine", f"no machine {action.machine!r}; there are: {known}"))
    except InvalidRequest as error:
        faults += [FieldError(".".join(filter(None, (inside, f.field))), f.message) for f in error.fields]
    except Exception as error:  # of somebody else's code: it fails this request, and nothing else
        faults.append(FieldError(inside, f"the machine {action.machine!r} does not take this: {_in_words(error)}"))


def schemas() -> dict[str, Any]:
    """JSON schema of each built-in machine's parameters."""
    described = {name: machine.record.schema(f"#/x-machines/{name}") for name, machine in BUILT_IN.items()}
    return {name: ECHO_SCHEMA if name == "echo" else described[name] for name in NAMES}


def _check_built_in(machine: Machine, parameters: Any, where: str, faults: list[FieldError]) -> None:
    if not isinstance(parameters, dict):
        faults.append(FieldError(where, machine.expected))
        return
    wanted = machine.record.read(parameters, where, faults)
    if wanted is not None:
        faults += [FieldError(".".join(filter(None, (where, path))), told) for path, told in machine.check(wanted)]


def _in_words(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


@functools.cache
def _installed() -> dict[str, EntryPoint]:
    """Machines of other packages. Loaded when first asked for, not before."""
    return {entry.name: entry for entry in entry_points(group="task_runner.machines")}
