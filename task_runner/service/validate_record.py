"""One record of the model against one JSON value: what is wrong with it, and where, in words.

A path names fields as the client wrote them. An unknown field brings the nearest known one of the record it stands
in: of all records together it would often be one that does not belong there.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Generic, TypeVar, cast

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, to_json

from task_runner.errors import FieldError
from task_runner.model.constraints import camel
from task_runner.service.meanings import with_meanings
from task_runner.service.nearest import did_you_mean

T = TypeVar("T")

#: a body may have a million faults; so many are told
MOST_FAULTS = 50
#: what pydantic calls a fault of a value that is of another kind altogether
_OF_KIND = "_type"


class Record(Generic[T]):
    """A class of the model, ready to be compared with what a client sent."""

    def __init__(self, cls: type[T]) -> None:
        self._cls = cls
        self._adapter = TypeAdapter(cls)

    def read(self, value: Any, where: str, faults: list[FieldError], *, also: Sequence[str] = ()) -> T | None:
        """The record that ``value`` describes; None after its faults, below ``where``, were added to ``faults``.

        ``also``: names that a client may have meant at the top, beside those of the record.
        """
        try:
            # through JSON, because only there strict mode takes an object for a dataclass
            return self._adapter.validate_json(to_json(value), strict=True)
        except ValidationError as error:
            details = error.errors(include_url=False, include_context=False, include_input=False)
            faults += [
                FieldError(".".join(filter(None, (where, path))), message)
                for path, message in _merged(self._faults(details[:MOST_FAULTS], also))
            ]
        except ValueError as error:  # a lone surrogate, which is JSON and no text
            faults.append(FieldError(where, str(error)))
        return None

    def names(self) -> list[str]:
        """The names of its fields, as clients write them."""
        return list(_fields(cast("Any", self._cls)))

    def schema(self, at: str = "#") -> dict[str, Any]:
        """The JSON schema, to stand at this place of a document."""
        described: dict[str, Any] = _closed(self._adapter.json_schema(ref_template=f"{at}/$defs/{{model}}"))
        return with_meanings(described, self._cls)

    def _faults(self, details: Sequence[ErrorDetails], also: Sequence[str]) -> Iterable[tuple[str, str, bool]]:
        for detail in details:
            path, names = _locate(self._cls, detail["loc"])
            message, of_kind = detail["msg"], detail["type"].endswith(_OF_KIND)
            if detail["type"] == "unexpected_keyword_argument":
                if len(detail["loc"]) == 1:
                    names = [*names, *also]
                message = f"no such field{did_you_mean(str(detail['loc'][-1]), names)}"
            elif detail["type"] == "missing":
                message = "this field is required"
            yield path, message, of_kind


def _closed(schema: Any) -> Any:
    """A schema in which names that match no pattern are no names: pydantic checks that, and does not say it."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    more = {"additionalProperties": False} if "patternProperties" in schema else {}
    return {**{name: _closed(each) for name, each in schema.items()}, **more}


def _merged(faults: Iterable[tuple[str, str, bool]]) -> Iterable[tuple[str, str]]:
    """One fault a path. A field that may be of several kinds has one for each: those of the right kind count."""
    by_path: dict[str, list[tuple[str, bool]]] = {}
    for path, message, of_kind in faults:
        by_path.setdefault(path, []).append((message, of_kind))
    for path, found in by_path.items():
        telling = [message for message, of_kind in found if not of_kind] or [message for message, _ in found]
        yield path, "; or: ".join(dict.fromkeys(telling))


def _locate(cls: Any, loc: Sequence[int | str]) -> tuple[str, list[str]]:
    """A place as a dotted path, and the names of the fields of the last record on the way to it."""
    kind, names, path = cls, list[str](), list[str]()
    for part in loc:
        kind = _plain(kind)
        if is_dataclass(kind):
            known = _fields(cast("Any", kind))
            names = list(known)
            kind = known.get(str(part))
        elif typing.get_origin(kind) in (list, dict):
            kind = typing.get_args(kind)[-1]
        elif isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
            continue  # pydantic's name for one of the kinds, which no client has written
        elif part == "[key]":
            continue  # the name before is at fault, not what stands there
        else:
            kind = None
        path.append(str(part)[:200])
    return ".".join(path), names


def _plain(hint: Any) -> Any:
    """A type without annotations, and without the None that it may be instead."""
    while True:
        if typing.get_origin(hint) is typing.Annotated:
            hint = typing.get_args(hint)[0]
        elif isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union:
            others = [each for each in typing.get_args(hint) if each is not type(None)]
            if len(others) != 1:
                return hint
            hint = others[0]
        else:
            return hint


@functools.cache
def _fields(cls: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    return {camel(field.name): hints[field.name] for field in fields(cls)}
