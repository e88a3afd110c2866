"""What POST …/task asks for, read from its body. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from task_runner.api.dialects.i3d.envelope import NO_ID, number_of
from task_runner.api.dialects.i3d.form import Form
from task_runner.errors import FieldError, InvalidRequest
from task_runner.model.batch import MAX_TASKS

#: how instances are chosen elsewhere; some clients send labels under the name of filters
_CHOICES = ("fleetId", "regionId", "labels", "filters")
_NO_CHOICE = "this daemon knows no fleets, regions and labels: name the instances in applicationInstanceIds"
_NO_TEMPLATE = "the id of a template is required; GET /v3/applicationInstance/task/template lists them"
_FIELDS = ("taskTemplateId", "applicationInstanceIds", "executeAt", "taskActionParam", *_CHOICES)


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """Tasks from a template, one for each instance."""

    #: the template's id, or its name
    template: str
    instances: tuple[str, ...]
    #: unix time; 0: as soon as possible
    execute_at: int
    #: by name, as they were given
    values: Mapping[str, Any]


def read_order(body: Mapping[str, Any], form: Form) -> Order:
    """Raises InvalidRequest, with everything that is wrong."""
    unknown = [name for name in body if name not in _FIELDS]
    faults = [FieldError(name[:100], f"there is no such field; there are: {', '.join(_FIELDS)}") for name in unknown]
    choices = [name for name in _CHOICES if body.get(name) not in (None, "", "0", 0, [])]
    faults += [FieldError(name, _NO_CHOICE) for name in choices]
    template = _template(body.get("taskTemplateId"), faults)
    instances = _instances(body.get("applicationInstanceIds"), form, faults)
    execute_at = _time(body.get("executeAt"), form, faults)
    values = read_pairs(body.get("taskActionParam"), "taskActionParam", ("paramName", "paramValue"), faults)
    if faults:
        raise InvalidRequest(fields=faults)
    return Order(template=template, instances=tuple(instances), execute_at=execute_at, values=values)


def _template(given: Any, faults: list[FieldError]) -> str:
    if isinstance(given, (str, int)) and not isinstance(given, bool) and given != "":
        return str(given)
    faults.append(FieldError("taskTemplateId", _NO_TEMPLATE))
    return ""


def _instances(given: Any, form: Form, faults: list[FieldError]) -> list[str]:
    field = "applicationInstanceIds"
    if not isinstance(given, list) or not given:
        faults.append(FieldError(field, "an array with the id of at least one application instance is required"))
        return []
    if len(given) > MAX_TASKS:
        faults.append(FieldError(field, f"{len(given)} instances; a batch has at most {MAX_TASKS} tasks"))
        return []
    found: dict[str, None] = {}
    for index, each in enumerate(given):
        text = str(each) if isinstance(each, (str, int)) and not isinstance(each, bool) else ""
        if wrong := instance_fault(text, form) or ("stands there twice" if text in found else None):
            faults.append(FieldError(f"{field}.{index}", wrong))
        found[text] = None
    return list(found)


def instance_fault(text: str, form: Form) -> str | None:
    """Why this cannot be the id of an instance."""
    if (value := number_of(text)) is None:
        return NO_ID
    if value > form.largest:
        return f"clients of the OpenAPI description read no number beyond {form.largest}; set i3d_openapi = false"
    return None


def _time(given: Any, form: Form, faults: list[FieldError]) -> int:
    latest = min(form.largest, 253_402_300_799)
    if given is None:
        return 0
    if type(given) is int and 0 <= given <= latest:
        return given
    faults.append(FieldError("executeAt", f"a unix timestamp from 0 (as soon as possible) to {latest} is expected"))
    return 0


def read_pairs(given: Any, field: str, keys: tuple[str, str], faults: list[FieldError]) -> dict[str, Any]:
    """An array of objects with a name and a value each, as one mapping."""
    if given is None:
        return {}
    if not isinstance(given, list):
        faults.append(FieldError(field, "an array is expected"))
        return {}
    found: dict[str, Any] = {}
    for index, each in enumerate(given):
        where = f"{field}.{index}"
        if not isinstance(each, dict) or set(each) != set(keys) or not isinstance(each[keys[0]], str):
            faults.append(FieldError(where, f'an object with "{keys[0]}" and "{keys[1]}" is expected'))
        elif each[keys[0]] in found:
            faults.append(FieldError(where, f"{each[keys[0]][:80]!r} stands there twice"))
        else:
            found[each[keys[0]]] = each[keys[1]]
    return found
