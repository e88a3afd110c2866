"""The schemas of the description: of what clients send, from the model; of what they are answered, from the records of
the client library and of the service."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
import types
import typing
from collections.abc import Collection, Sequence
from typing import Any

from task_runner.client.records import Event
from task_runner.model.batch import BatchRequest
from task_runner.model.constraints import camel
from task_runner.model.state import Outcome, State
from task_runner.model.status import Accounting, Usage
from task_runner.model.template import Template
from task_runner.service.meanings import meanings
from task_runner.service.templates import BESIDE
from task_runner.service.validate import schema as spec_schema
from task_runner.service.validate_record import Record

AT = "#/components/schemas/"
_PLAIN = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
#: said of a field for clients that must cope with what they meet
_OLDER = re.compile(r"(^|; )[^;]*older daemon")
_STATE = {"type": "string", "enum": [state.value for state in State]}
_OUTCOME = {"anyOf": [{"type": "string", "enum": [outcome.value for outcome in Outcome]}, {"type": "null"}]}
_ENDING = {"state": _STATE, "outcome": _OUTCOME}
_USAGE = {"anyOf": [{"$ref": f"{AT}Usage"}, {"type": "null"}]}
_ACCOUNTING = {"anyOf": [{"$ref": f"{AT}Accounting"}, {"type": "null"}]}
_PARAMETERS = {"description": "What the machine takes: of a built-in one in `x-machines` of `Spec`."}
#: what is known of a field beyond the type that it has in the client library
_NARROWER: dict[str, dict[str, Any]] = {
    "Task": {**_ENDING, "usage": _USAGE, "accounting": _ACCOUNTING, "spec": {"$ref": f"{AT}Spec"}},
    "Attempt": {**_ENDING, "usage": _USAGE},
    "Event": _ENDING,
    "PastAttempt": _ENDING,
    "BatchResult": _ENDING,
    "ActionStatus": {"outcome": _OUTCOME, "usage": _USAGE},
    "ContainerNote": {"accounting": _ACCOUNTING},
    "Explanation": _ENDING,
}


def ref(name: str) -> dict[str, Any]:
    return {"$ref": AT + name}


def components() -> dict[str, Any]:
    """What clients send."""
    spec = _moved(spec_schema())
    shared = spec.pop("$defs", {})
    template = Record(Template).schema(f"{AT}NewTemplate")
    return {**shared, "Spec": spec, **_forms(spec), "NewBatch": _batch(), "NewTemplate": template}


def answers() -> Answers:
    """For the schemas of what is answered."""
    found = Answers()
    for record in (Event, Usage, Accounting):
        found.of(record)
    return found


class Answers:
    """Types in JSON schema, as far as what is answered is made of them; records become components."""

    def __init__(self) -> None:
        self.components: dict[str, Any] = {}
        self._known: dict[str, Any] = {}

    def of(self, hint: Any) -> dict[str, Any]:
        """The schema of a type."""
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if origin in (typing.Annotated, typing.NotRequired):
            return self.of(arguments[0])
        if hint is Any:
            return {}
        if hint in _PLAIN:
            return {"type": _PLAIN[hint]}
        if origin is typing.Literal:
            return {"const": arguments[0]}
        if origin in (typing.Union, types.UnionType):
            return {"anyOf": [self.of(each) for each in arguments]}
        if origin in (list, Sequence):
            return {"type": "array", "items": self.of(arguments[0])}
        if origin is dict:
            return {"type": "object", "additionalProperties": self.of(arguments[1])}
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return {"type": "string", "enum": [member.value for member in hint]}
        return self._record(hint)

    def _record(self, record: Any) -> dict[str, Any]:
        name = str(record.__name__)
        if self._known.setdefault(name, record) is not record:
            # two parts of the program have a record of this name: that of the client library keeps it
            name = f"{_part_of(record)}{name}"
        if name not in self.components:
            self.components[name] = {}  # it may contain itself
            self.components[name] = self._fields(record, name)
        return ref(name)

    def _fields(self, record: Any, name: str) -> dict[str, Any]:
        told, narrower = _told(record), _NARROWER.get(name, {})
        properties, required = {}, []
        for field, hint in typing.get_type_hints(record, include_extras=True).items():
            called = camel(field) if dataclasses.is_dataclass(record) else field
            schema = dict(narrower.get(called) or self.of(hint))
            if called.endswith("At"):
                _date(schema)
            text = told.get(field) or next((note.description for note in getattr(hint, "__metadata__", ())), None)
            properties[called] = {**schema, "description": text} if text else schema
            if typing.get_origin(hint) is not typing.NotRequired and field in _always(record):
                required.append(called)
        head = (inspect.getdoc(record) or "").split("\n\n")[0].replace("\n", " ")
        said = {} if typing.is_typeddict(record) and head.startswith("dict(") else {"description": head}
        return {"type": "object", **said, "properties": properties, "required": required}


def _always(record: Any) -> Collection[str]:
    """The fields that are always there: a record is sent with all that it has."""
    if dataclasses.is_dataclass(record):
        return [field.name for field in dataclasses.fields(record)]
    keys: frozenset[str] = record.__required_keys__
    return keys


def _part_of(record: Any) -> str:
    return str(record.__module__).rsplit(".", 1)[-1].capitalize()


def _told(record: Any) -> dict[str, str]:
    """What the comments of a record say of its fields."""
    found: dict[str, str] = {}
    for each in (*getattr(record, "__orig_bases__", ()), record):
        if isinstance(each, type) and each.__module__.startswith("task_runner."):
            found |= meanings(each)
    return {name: text for name, full in found.items() if (text := _OLDER.sub("", full).strip())}


def _date(schema: dict[str, Any]) -> None:
    for each in (schema, *schema.get("anyOf", ())):
        if each.get("type") == "string":
            each["format"] = "date-time"


def _moved(schema: Any) -> Any:
    """A schema that stands among the components: what its references lead to stands elsewhere than in /v1/schema."""
    if isinstance(schema, list):
        return [_moved(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    moved = {name: _moved(each) for name, each in schema.items()}
    if isinstance(target := moved.get("$ref"), str):
        shared = target.startswith("#/$defs/")
        moved["$ref"] = target.replace("#/$defs/" if shared else "#/", AT if shared else f"{AT}Spec/", 1)
    return moved


def _forms(spec: dict[str, Any]) -> dict[str, Any]:
    """The long form of a task, and the short ones."""
    fields = {name: each for name, each in spec["properties"].items() if name != "actions"}
    process = spec["x-machines"]["process"]["properties"]
    beside = {name: fields[name] for name in BESIDE}
    text, one = {"type": "string"}, {"not": {"type": "null"}}
    return {
        "NewTask": {
            "description": "A task, in one of four forms.",
            "anyOf": [ref("Spec"), ref("CommandTask"), ref("MachineTask"), ref("TemplateTask")],
        },
        "CommandTask": _closed(
            "One command: the parameters of the machine `process`, and what may stand beside them.",
            {**process, **fields},
            anyOf=[{"required": [name], "properties": {name: one}} for name in ("command", "shell")],
        ),
        "MachineTask": _closed(
            "One action.",
            {"machine": text, "parameters": _PARAMETERS, **fields},
            required=["machine"],
        ),
        "TemplateTask": _closed(
            "A task made of a template; what stands beside takes the place of the template's.",
            {"template": text, "parameters": {"type": "object"}, **beside},
            required=["template"],
        ),
    }


def _closed(description: str, properties: dict[str, Any], **more: Any) -> dict[str, Any]:
    head = {"type": "object", "description": description, "additionalProperties": False}
    return {**head, "properties": properties, **more}


def _batch() -> dict[str, Any]:
    batch = Record(BatchRequest).schema(f"{AT}NewBatch")
    tasks = batch["properties"]["tasks"]["anyOf"][0]
    tasks["items"] = ref("NewTask")
    some = {"not": {"type": "null"}}
    ways = (["tasks"], ["task", "entities"])
    batch["anyOf"] = [{"required": way, "properties": dict.fromkeys(way, some)} for way in ways]
    return batch
