"""From a request body to a spec, or to a list of everything that is wrong with it.

Every surface comes through here, so what one refuses all refuse. Paths name what the client wrote: a fault in a
short form is reported where the client put it, not where the long form has it.
"""

from __future__ import annotations

import difflib
import functools
import json
import math
import re
from importlib.metadata import EntryPoint, entry_points
from typing import Any, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, from_json, to_json

from task_runner.errors import FieldError, InvalidRequest
from task_runner.lib import signals
from task_runner.model import echo
from task_runner.model.shortform import expand
from task_runner.model.machines import ProcessParameters
from task_runner.model.spec import Spec

_SPEC = TypeAdapter(Spec)
_PROCESS = TypeAdapter(ProcessParameters)
BUILT_IN = ("process", "echo")
#: a body may have a million faults; so many are told
MOST_FAULTS = 50
_FORMS = {"actions", "machine", "command", "shell"}


def parse_json(body: bytes) -> Any:
    """The JSON value of a body. Raises InvalidRequest."""
    if not body.strip():
        raise InvalidRequest.at("", "the body is empty; a JSON object is expected")
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest.at("", f"the body is not JSON in UTF-8: {error}") from None
    # once more, for what that parser lets pass: a name that stands twice, a number that no float can hold
    json.loads(body.decode(), object_pairs_hook=_unique, parse_float=_finite)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> None:
    names = set()
    for name, _value in pairs:
        if name in names:
            raise InvalidRequest.at(name[:100], "stands twice in one object; which of the two is meant?")
        names.add(name)


def _finite(number: str) -> None:
    if math.isinf(float(number)):
        raise InvalidRequest.at("", f"the number {number[:40]} is too large")


def parse_spec(body: Any) -> Spec:
    """The spec that a JSON value describes, in long or short form. Raises InvalidRequest."""
    try:
        long = expand(body)
    except InvalidRequest as error:
        raise _with_nearest_form(error, body) from None
    faults: list[FieldError] = []
    spec = _validate(_SPEC, long, "", faults)
    if spec is not None:
        faults += _check_signal(spec)
        for index, action in enumerate(spec.actions):
            _check_parameters(action.machine, action.parameters, f"actions.{index}", faults)
    if faults:
        raise InvalidRequest(fields=[_as_written(fault, body) for fault in faults[:MOST_FAULTS]])
    return cast("Spec", spec)


def _with_nearest_form(error: InvalidRequest, body: Any) -> InvalidRequest:
    """A body of no form may be one with its first word misspelt."""
    names = list(body)[:MOST_FAULTS] if isinstance(body, dict) and not _FORMS & body.keys() else []
    for name in names:
        if near := difflib.get_close_matches(name[:100], _FORMS, n=1):
            return InvalidRequest(fields=[FieldError(name, f"no such field; did you mean {near[0]!r}?"), *error.fields])
    return error


def _validate(adapter: TypeAdapter[Any], value: Any, where: str, faults: list[FieldError]) -> Any:
    try:
        # through JSON, because only there strict mode takes an object for a dataclass
        return adapter.validate_json(to_json(value), strict=True)
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False, include_input=False)
        faults += [_fault(detail, where, adapter) for detail in details[:MOST_FAULTS]]
    except ValueError as error:  # a lone surrogate, which is JSON and no text
        faults.append(FieldError(where, str(error)))
    return None


def _fault(detail: ErrorDetails, where: str, adapter: TypeAdapter[Any]) -> FieldError:
    path = ".".join(str(part)[:200] for part in detail["loc"] if part != "[key]")
    message = detail["msg"]
    if detail["type"] == "unexpected_keyword_argument":
        message = "no such field"
        name = str(detail["loc"][-1])[:100]
        near = difflib.get_close_matches(name, _fields(adapter), n=1)
        if not near and len(detail["loc"]) == 1:  # in a short form
            near = difflib.get_close_matches(name, _fields(_PROCESS), n=1)
        if near:
            message += f"; did you mean {near[0]!r}?"
    elif detail["type"] == "missing":
        message = "this field is required"
    return FieldError(".".join(filter(None, (where, path))), message)


@functools.cache
def _fields(adapter: TypeAdapter[Any]) -> list[str]:
    schema = adapter.json_schema()
    names = set(schema.get("properties", ()))
    for part in schema.get("$defs", {}).values():
        names |= set(part.get("properties", ()))
    return sorted(names)


def _check_signal(spec: Spec) -> list[FieldError]:
    try:
        signals.parse(spec.stop_signal)
    except ValueError as error:
        return [FieldError("stopSignal", str(error))]
    return []


def _check_parameters(machine: str, parameters: Any, where: str, faults: list[FieldError]) -> None:
    inside = f"{where}.parameters"
    if machine == "process":
        _check_process(parameters, inside, faults)
        return
    try:
        if machine == "echo":
            echo.parse(parameters)
        elif (entry := _installed().get(machine)) is not None:
            entry.load().check(parameters)
        else:
            known = ", ".join([*BUILT_IN, *_installed()])
            faults.append(FieldError(f"{where}.machine", f"no machine {machine!r}; there are: {known}"))
    except InvalidRequest as error:
        faults += [FieldError(".".join(filter(None, (inside, f.field))), f.message) for f in error.fields]
    except Exception as error:  # of somebody else's code: it fails this request, and nothing else
        faults.append(FieldError(inside, f"the machine {machine!r} does not take this: {_in_words(error)}"))


def _in_words(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _check_process(parameters: Any, where: str, faults: list[FieldError]) -> None:
    if not isinstance(parameters, dict):
        faults.append(FieldError(where, 'expected an object with "command" or "shell"'))
        return
    checked: ProcessParameters | None = _validate(_PROCESS, parameters, where, faults)
    if checked is None:
        return
    if (checked.command is None) == (checked.shell is None):
        faults.append(FieldError(where, 'give either "command" or "shell"'))
    elif checked.command is not None and not checked.command[0]:
        faults.append(FieldError(f"{where}.command.0", "the program has no name"))
    strings = [*(checked.command or ()), checked.shell or "", *checked.env, *checked.env.values()]
    if sum(len(string.encode()) + 9 for string in strings) > 1_500_000:
        faults.append(FieldError(where, "command and env together are longer than the system takes (1.5 MB)"))


@functools.cache
def _installed() -> dict[str, EntryPoint]:
    """Machines of other packages. Loaded when first asked for, not before."""
    return {entry.name: entry for entry in entry_points(group="task_runner.machines")}


def _as_written(fault: FieldError, body: Any) -> FieldError:
    if "actions" in body:
        return fault
    prefix = r"^actions\.0\." if "machine" in body else r"^actions\.0\.(parameters\.?)?"
    return FieldError(re.sub(prefix, "", fault.field), fault.message)


def schema() -> dict[str, Any]:
    """JSON schema of a spec and of the built-in machines' parameters."""
    return {**_SPEC.json_schema(), "x-machines": {"process": _PROCESS.json_schema()}}
