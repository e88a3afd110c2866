"""From a request body to a spec, or to a list of everything that is wrong with it.

Every surface comes through here, so what one refuses all refuse. Paths name what the client wrote: a fault in a
short form is reported where the client put it, not where the long form has it.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, cast

from pydantic_core import from_json

from task_runner.errors import FieldError, InvalidRequest
from task_runner.model.shortform import expand
from task_runner.model.spec import Spec
from task_runner.model.template import Template
from task_runner.service.nearest import did_you_mean
from task_runner.service.validate_machines import BUILT_IN, check_action, schemas
from task_runner.service.validate_record import MOST_FAULTS, Record
from task_runner.service.validate_terms import check_terms

_SPEC = Record(Spec)
_TEMPLATE = Record(Template)
_FORMS = ("actions", "machine", "command", "shell")


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
    spec = _SPEC.read(long, "", faults, also=_also(body))
    if spec is not None:
        faults += check_terms(spec)
        for where, action in spec.every_action():
            check_action(action, where, faults)
    if faults:
        raise InvalidRequest(fields=[_as_written(fault, body) for fault in faults[:MOST_FAULTS]])
    return cast("Spec", spec)


def schema() -> dict[str, Any]:
    """JSON schema of a spec, of the built-in machines' parameters and of a template."""
    return {**_SPEC.schema(), "x-machines": schemas(), "x-template": _TEMPLATE.schema("#/x-template")}


def _also(body: dict[str, Any]) -> list[str]:
    """What may stand at the top in a short form, beside the fields of a spec."""
    if "actions" in body:
        return []
    return ["machine", "parameters"] if "machine" in body else BUILT_IN["process"].record.names()


def _with_nearest_form(error: InvalidRequest, body: Any) -> InvalidRequest:
    """A body of no form may be one with its first word misspelt."""
    names = list(body)[:MOST_FAULTS] if isinstance(body, dict) and body.keys().isdisjoint(_FORMS) else []
    for name in names:
        if meant := did_you_mean(name, _FORMS):
            return InvalidRequest(fields=[FieldError(name, f"no such field{meant}"), *error.fields])
    return error


def _as_written(fault: FieldError, body: Any) -> FieldError:
    if "actions" in body:
        return fault
    prefix = r"^actions\.0\." if "machine" in body else r"^actions\.0\.(parameters\.?)?"
    return FieldError(re.sub(prefix, "", fault.field), fault.message)
