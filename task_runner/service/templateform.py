"""From a request body to a template, and from values to the task that it makes; or to all that is wrong with them."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic_core import SchemaError, SchemaValidator, ValidationError, core_schema

from task_runner.errors import FieldError, InvalidRequest
from task_runner.model import placeholder
from task_runner.model.placeholder import Path
from task_runner.model.template import Parameter, ParameterType, Template, Value
from task_runner.service.nearest import did_you_mean
from task_runner.service.validate import parse_spec
from task_runner.service.validate_record import MOST_FAULTS, Record

RECORD = Record(Template)
#: characters that the values may add to a task
MOST_ADDED = 1_048_576
#: whole numbers beyond are for no field of a task
_LARGEST = 2**63
_NUMBERS = (ParameterType.INTEGER, ParameterType.NUMBER)


def parse_template(body: Any) -> Template:
    """The template that a JSON value describes, tried out. Raises InvalidRequest."""
    if not isinstance(body, dict):
        raise InvalidRequest.at("", 'a template is a JSON object with "task"')
    faults: list[FieldError] = []
    template = RECORD.read(body, "", faults)
    if template is not None:
        for name, parameter in template.parameters.items():
            faults += [FieldError(f"parameters.{name}.{field}", text) for field, text in _faults_in(parameter)]
        found = placeholder.check(template.task, list(template.parameters))
        faults += [FieldError(_dotted(("task", *path)), text) for path, text in found]
    if template is None or faults:
        raise InvalidRequest(fields=faults[:MOST_FAULTS])
    _try_out(template)
    return template


def fill(template: Template, given: Mapping[str, Any]) -> dict[str, Any]:
    """The task that a template makes of these values. Raises InvalidRequest, with fields as in a request for a task."""
    values, faults = _values(template, given)
    if faults:
        raise InvalidRequest(fields=faults[:MOST_FAULTS])
    try:
        task, spliced = placeholder.fill(template.task, values, most=MOST_ADDED)
    except placeholder.TooLong as error:
        raise InvalidRequest.at("parameters", str(error)) from None
    found = [(_dotted(path), text) for path, text in spliced] or _faults_of(task)
    if found:
        raise InvalidRequest(fields=[_blamed(field, text, template.task) for field, text in found[:MOST_FAULTS]])
    filled: dict[str, Any] = task
    return filled


# -- parameters


def _faults_in(parameter: Parameter) -> Iterator[tuple[str, str]]:
    """What is wrong with a declaration: field, message."""
    for field, limit, kinds in (
        ("pattern", parameter.pattern, (ParameterType.STRING,)),
        ("minLength", parameter.min_length, (ParameterType.STRING,)),
        ("maxLength", parameter.max_length, (ParameterType.STRING,)),
        ("minimum", parameter.minimum, _NUMBERS),
        ("maximum", parameter.maximum, _NUMBERS),
    ):
        if limit is not None and parameter.type not in kinds:
            wanted = " or ".join(kind.value for kind in kinds)
            yield field, f"is for parameters of type {wanted}, and this one is of type {parameter.type.value}"
    if parameter.pattern is not None:
        try:
            _pattern(parameter.pattern)
        except SchemaError as error:
            yield "pattern", f"is not a regular expression that can be used here: {_first_line(error)}"
            return
    for field, low, high in (
        ("maxLength", parameter.min_length, parameter.max_length),
        ("maximum", parameter.minimum, parameter.maximum),
    ):
        if low is not None and high is not None and high < low:
            yield field, f"is less than the least, {low:g}: no value fits"
    for index, choice in enumerate(parameter.choices or ()):
        if wrong := _misfit(parameter, choice):
            yield f"choices.{index}", wrong
    if parameter.default is not None and (wrong := value_fault(parameter, parameter.default)):
        yield "default", wrong


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), lines[0])


@functools.lru_cache(maxsize=1000)
def _pattern(pattern: str) -> SchemaValidator:
    """Whether a whole string matches. In linear time, whatever the pattern: this is not the `re` of Python."""
    SchemaValidator(core_schema.str_schema(pattern=pattern))  # by itself, for `a)|(b` becomes another thing in brackets
    return SchemaValidator(core_schema.str_schema(pattern=rf"\A(?:{pattern})\z"))


def value_fault(parameter: Parameter, value: Any) -> str | None:
    """Why a parameter does not take a value; None: it does."""
    if wrong := _misfit(parameter, value):
        return wrong
    if parameter.choices is not None and value not in parameter.choices:
        return f"is not one of {', '.join(map(_shown, parameter.choices))}"
    return None


def _misfit(parameter: Parameter, value: Any) -> str | None:
    match parameter.type:
        case ParameterType.BOOLEAN:
            return None if isinstance(value, bool) else "expected true or false"
        case ParameterType.STRING:
            return _text_misfit(parameter, value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return "expected a number"
    if parameter.type is ParameterType.INTEGER and not isinstance(value, int):
        return "expected a whole number"
    if not math.isfinite(value) or abs(value) > _LARGEST:
        return "the number is too large"
    if parameter.minimum is not None and value < parameter.minimum:
        return f"expected {parameter.minimum:g} or more"
    if parameter.maximum is not None and value > parameter.maximum:
        return f"expected {parameter.maximum:g} or less"
    return None


def _text_misfit(parameter: Parameter, value: Any) -> str | None:
    if not isinstance(value, str):
        return "expected a string"
    if "\0" in value:
        return "a NUL character ends every string of the system, so none can be in a value"
    if parameter.min_length is not None and len(value) < parameter.min_length:
        return f"expected {parameter.min_length} characters or more"
    if parameter.max_length is not None and len(value) > parameter.max_length:
        return f"expected {parameter.max_length} characters or less"
    if parameter.pattern is not None:
        try:
            _pattern(parameter.pattern).validate_python(value)
        except ValidationError:
            return f"does not match {parameter.pattern!r}"
    return None


def _shown(value: Value) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _values(template: Template, given: Mapping[str, Any]) -> tuple[dict[str, Value], list[FieldError]]:
    values, faults = dict[str, Value](), list[FieldError]()
    for name in given:
        if name not in template.parameters:
            known = ", ".join(template.parameters) or "none"
            text = f"no such parameter{did_you_mean(str(name), template.parameters)}"
            faults.append(FieldError(f"parameters.{str(name)[:100]}", f"{text}; there are: {known}"))
    for name, parameter in template.parameters.items():
        value = given.get(name)
        if value is None:
            value = parameter.default
        if value is None:
            faults.append(FieldError(f"parameters.{name}", f"this parameter is required: {_wanted(parameter)}"))
        elif wrong := value_fault(parameter, value):
            faults.append(FieldError(f"parameters.{name}", wrong))
        else:
            values[name] = value
    return values, faults


def _wanted(parameter: Parameter) -> str:
    if parameter.choices is not None:
        return f"one of {', '.join(map(_shown, parameter.choices))}"
    return parameter.description or f"a value of type {parameter.type.value}"


# -- the task


def _faults_of(task: Any) -> list[tuple[str, str]]:
    try:
        parse_spec(task)
    except InvalidRequest as error:
        return [(fault.field, fault.message) for fault in error.fields]
    return []


def _blamed(field: str, text: str, task: dict[str, Any]) -> FieldError:
    """A fault of the filled task as one of the value that is to blame, or of the template."""
    for path, names in placeholder.holes_at(task).items():
        if _related(_dotted(_whole(path, task)), field):
            return FieldError(f"parameters.{names[0]}", f"{text} (at {field} of the template's task)")
    return FieldError("template", f"its task is not valid: {': '.join(filter(None, (field, text)))}")


def _try_out(template: Template) -> None:
    """Raises InvalidRequest for what is wrong with the task, whatever the values without a default will be."""
    values = {name: _sample(parameter) for name, parameter in template.parameters.items()}
    try:
        task, spliced = placeholder.fill(template.task, values, most=MOST_ADDED)
    except placeholder.TooLong:
        return
    open_names = {
        name for name, each in template.parameters.items() if each.default is None and each.choices is None
    }
    vague = [
        _dotted(_whole(path, template.task))
        for path, names in placeholder.holes_at(template.task).items()
        if not open_names.isdisjoint(names)
    ]
    found = [(_dotted(path), text) for path, text in spliced]
    found += [
        (field, text) for field, text in _faults_of(task) if not any(_related(each, field) for each in vague)
    ]
    if found:
        faults = [FieldError(".".join(filter(None, ("task", field))), text) for field, text in found]
        raise InvalidRequest(fields=faults[:MOST_FAULTS])


def _sample(parameter: Parameter) -> Value:
    if parameter.default is not None:
        return parameter.default
    if parameter.choices is not None:
        return parameter.choices[0]
    match parameter.type:
        case ParameterType.BOOLEAN:
            return False
        case ParameterType.STRING:
            return "x" * min(max(1, parameter.min_length or 0), 1000)
    bounds = [each for each in (parameter.minimum, parameter.maximum) if each is not None]
    return math.ceil(bounds[0]) if bounds else 1


def _whole(path: Path, task: dict[str, Any]) -> Path:
    """Of a machine that is not `process` nobody knows which part of the parameters it will name in a fault."""
    if path[:1] == ("parameters",):
        return ("parameters",)
    if path[0] in ("actions", "cleanup") and path[2:3] == ("parameters",):
        action = task[str(path[0])][path[1]]
        return path[:3] if action.get("machine") != "process" else path
    return path


def _related(one: str, other: str) -> bool:
    """Whether one of two places is the other, or inside of it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _dotted(path: Path) -> str:
    return ".".join(map(str, path))
