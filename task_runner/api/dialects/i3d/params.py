"""Values for a template's parameters. They come as text; a template declares what they are. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from task_runner.errors import FieldError, InvalidRequest
from task_runner.model.template import ParameterType, Template

#: is given to every template that declares it
INSTANCE = "applicationInstanceId"

_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_BOOLEANS = {"true": True, "1": True, "false": False, "0": False}


def typed(template: Template, given: Mapping[str, Any]) -> dict[str, Any]:
    """The values as the template declares them; what it does not take is left for it to refuse. Raises InvalidRequest,
    with fields as `service.templates` has them."""
    if INSTANCE in given:
        raise InvalidRequest(fields=[FieldError(f"parameters.{INSTANCE}", "is the instance's own: leave it out")])
    types = {name: parameter.type for name, parameter in template.parameters.items()}
    return {name: _typed(types[name], value) if name in types else value for name, value in given.items()}


def for_instance(template: Template, values: Mapping[str, Any], instance: str) -> dict[str, Any]:
    """The same with the id of the instance, where the template wants it."""
    if (parameter := template.parameters.get(INSTANCE)) is None:
        return dict(values)
    return {**values, INSTANCE: _typed(parameter.type, instance)}


def _typed(kind: ParameterType, value: Any) -> Any:
    """The value that a text stands for; else what was given."""
    if kind is ParameterType.STRING:
        return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value
    if not isinstance(value, str):
        return value
    text = value.strip()
    if kind is ParameterType.BOOLEAN:
        return _BOOLEANS.get(text.lower(), value)
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if kind is ParameterType.NUMBER and _NUMBER.fullmatch(text) else value


def renamed(error: InvalidRequest, prefix: str) -> InvalidRequest:
    """Faults of a task made from a template, at the fields of i3D.net's requests. ``prefix``: of the parameters."""
    found: dict[FieldError, None] = {}
    for fault in error.fields:
        field = re.sub(r"^tasks\.\d+\.", "", fault.field)
        head, _, rest = field.partition(".")
        if head == "parameters":
            found[FieldError(prefix + rest, fault.message)] = None
        elif field in ("executeAt", "taskTemplateId"):
            found[fault] = None
        elif head == "template":
            found[FieldError("taskTemplateId", fault.message)] = None
        else:  # what the template asks for is not possible here
            found[FieldError("taskTemplateId", f"{field}: {fault.message}")] = None
    return InvalidRequest(fields=list(found))
