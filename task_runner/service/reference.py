"""The tables of doc/reference/fields.md, from the classes of the model, and the JSON schema beside them.

What a field means is the `#:` comment above it; what it takes and what it is by default is what the code says.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import json
import sys
import types
import typing
from collections.abc import Iterator
from typing import Any

from task_runner.model import spec, terms, walls
from task_runner.model.batch import BatchRequest
from task_runner.model.codec import to_json
from task_runner.model.constraints import Limit, camel
from task_runner.model.machines import DownloadParameters, ExtractParameters, ProcessParameters
from task_runner.model.template import Parameter, Template
from task_runner.service.meanings import meanings
from task_runner.service.validate import schema

#: the records that clients write, in the order of the page
RECORDS: dict[type[Any], str] = {
    spec.Spec: "Spec",
    spec.Action: "Action",
    ProcessParameters: "Parameters of `process`",
    DownloadParameters: "Parameters of `download`",
    walls.ContainerParameters: "Parameters of `container`",
    ExtractParameters: "Parameters of `extract`",
    terms.Retry: "Retry",
    terms.After: "After",
    terms.Resources: "Resources",
    terms.StallPolicy: "Stall policy",
    terms.SecretUse: "Secret",
    terms.FileIn: "File",
    terms.Fetch: "Fetch",
    terms.Webhook: "Webhook",
    walls.TaskLimits: "Limits",
    walls.Logging: "Logging",
    walls.Syslog: "Syslog",
    walls.Sandbox: "Sandbox",
    walls.Sidecar: "Sidecar",
    walls.Mount: "Mount",
    walls.WorkMount: "Mount of the working directory",
    walls.Device: "Device",
    walls.Registry: "Registry",
    BatchRequest: "Batch",
    Template: "Template",
    Parameter: "Parameter of a template",
}

#: patterns that are shorter in words
_IN_WORDS = {
    r"^[^\x00]*$": "without NUL",
    r"^[^\x00]+$": "without NUL",
    r"^[^\x00-\x1f\x7f]*$": "without control characters",
    r"^[^\x00-\x1f\x7f=]+$": "without control characters and =",
    r"^[^\x00=]+$": "without NUL and =",
    r"^[^\x00\r\n]*$": "on one line",
    r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$": "the name of a header",
    r"^[A-Za-z0-9][A-Za-z0-9._-]*$": "letters, digits and . _ - inside",
    r"^[0-9a-fA-F]{64}$": "64 hexadecimal digits",
    r"^[a-z][a-z0-9+.-]*:[^\x00-\x20\x7f]+$": "a URL",
    r"^[A-Za-z0-9+/\s]*={0,2}\s*$": "base64",
    r"^([A-Za-z_][A-Za-z0-9_.-]*\$?|[0-9]{1,10})$": "a name or a number",
    r"^[A-Za-z0-9_.$-]+(:[A-Za-z0-9_.$-]+)?$": "a name or number, or two with : between",
    r"^(podman|docker|cri)$": "`podman`, `docker` or `cri`",
    r"^/[^\x00]*$": "an absolute path",
    r"^0?[0-7]{3}$": "three octal digits",
}
_PLAIN = {str: "text", float: "number", int: "whole number", bool: "`true` or `false`", Any: "anything"}


def fields_page() -> str:
    """doc/reference/fields.md."""
    head = [
        "# Fields",
        "",
        "Generated from `task_runner/model`",
        "by `python -m task_runner.service.reference fields > doc/reference/fields.md`; do not edit.",
        "",
        "Every field that a client may write, with an example of each in [spec.md](spec.md). The script of the machine",
        "`echo` is described in [api.md](../api.md).",
    ]
    return "\n".join([*head, *(line for cls in RECORDS for line in _table(cls))])


def schema_text() -> str:
    """doc/reference/schema.json."""
    return json.dumps(schema(), indent=2, ensure_ascii=False)


def _table(cls: type[Any]) -> Iterator[str]:
    yield from ("", f"## {RECORDS[cls]}", "", (inspect.getdoc(cls) or "").replace("``", "`"))
    yield from ("", "| field | takes | default | meaning |", "| --- | --- | --- | --- |")
    hints, meant = typing.get_type_hints(cls, include_extras=True), meanings(cls)
    for field in dataclasses.fields(cls):
        cells = [f"`{camel(field.name)}`", _takes(hints[field.name]), _default(field), meant[field.name]]
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    elif field.default is not dataclasses.MISSING:
        value = field.default
    else:
        return "required"
    if value is None or value == [] or value == {}:
        return "none"
    return f"`{json.dumps(to_json(value))}`"


def _takes(hint: Any, limit: Limit | None = None) -> str:
    """A type and its limits in words."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return _takes(arguments[0], next(each for each in arguments[1:] if isinstance(each, Limit)))
    if origin in (typing.Union, types.UnionType):
        return ", or ".join(_takes(each, limit) for each in arguments if each is not type(None))
    if origin is list:
        return f"list{_lengths(limit, 'elements')}: {_takes(arguments[0])}"
    if origin is dict:
        return _object(arguments, limit)
    if dataclasses.is_dataclass(hint):
        title = RECORDS[typing.cast("type[Any]", hint)]
        return f"[{title}](#{title.lower().replace(' ', '-').replace('`', '')})"
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return ", ".join(f'`"{member.value}"`' for member in hint)
    return _PLAIN[hint] + _lengths(limit, "characters") + _bounds(limit) + _pattern(limit)


def _object(arguments: tuple[Any, ...], limit: Limit | None) -> str:
    key, value = (_takes(each) for each in arguments)
    if value == "anything":
        return "object"
    return f"object{_lengths(limit, 'names')}: {key}; each with {value}"


def _lengths(limit: Limit | None, unit: str) -> str:
    low, high = (limit.min_length, limit.max_length) if limit else (None, None)
    if high is None:
        return ""
    return f", {low} to {_number(high)} {unit}" if low else f", up to {_number(high)} {unit}"


def _bounds(limit: Limit | None) -> str:
    if limit is None:
        return ""
    low = f"more than {_number(limit.gt)}" if limit.gt is not None else ""
    low = f"from {_number(limit.ge)}" if limit.ge is not None else low
    high = f"to {_number(limit.le)}" if limit.le is not None else ""
    words = " ".join(filter(None, (low, high)))
    return f", {words}" if words else ""


def _pattern(limit: Limit | None) -> str:
    if limit is None or limit.pattern is None:
        return ""
    return f", {_IN_WORDS.get(limit.pattern) or f'like `{limit.pattern}`'}"


def _number(value: float) -> str:
    power = int(value).bit_length() - 1
    return f"2^{power}" if power >= 24 and value == 2**power else f"{int(value) if value == int(value) else value}"


if __name__ == "__main__":
    print({"fields": fields_page, "schema": schema_text}[sys.argv[1]]())
