"""Records to JSON values and back, with the standard library alone.

Field names are camelCase in JSON. Reading is tolerant: a field this version does not know is dropped, a
field that is missing takes its default, so that files of older and newer versions can be read.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import types
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from task_runner.errors import Damaged
from task_runner.model.constraints import camel

T = TypeVar("T")


def to_json(value: Any, *, sparse: bool = False) -> Any:
    """The JSON value (dicts, lists, strings, numbers) of a record; ``sparse`` leaves out what has its default."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (list, tuple)):
        return [to_json(item, sparse=sparse) for item in value]
    if isinstance(value, dict):
        return {key: to_json(item, sparse=sparse) for key, item in value.items()}
    fields = ((key, getattr(value, name), default) for name, key, default in _names(typing.cast("Any", type(value))))
    return {key: to_json(item, sparse=sparse) for key, item, default in fields if not (sparse and item == default)}


def from_json(cls: type[T], data: Any) -> T:
    """The record of ``cls`` that ``data`` describes. Raises Damaged with the path of what does not fit."""
    reader: Any = _reader(typing.cast("Any", cls))
    return typing.cast("T", reader(data, cls.__name__))


@functools.cache
def _names(cls: Any) -> list[tuple[str, str, Any]]:
    """Name, name in JSON, and default of each field; a required one has MISSING, which equals nothing."""
    fields = dataclasses.fields(cls)
    return [(field.name, camel(field.name), _default(field)) for field in fields]


def _default(field: dataclasses.Field[Any]) -> Any:
    return field.default_factory() if field.default_factory is not dataclasses.MISSING else field.default


@functools.cache
def _reader(hint: Any) -> Callable[[Any, str], Any]:
    """How to read a value of this type: worked out once a type, not once a value."""
    if typing.get_origin(hint) is typing.Annotated:
        return _reader(typing.get_args(hint)[0])
    if hint is Any:
        return lambda value, _where: value
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return functools.partial(_read_enum, hint)
    if dataclasses.is_dataclass(hint):
        return _record_reader(typing.cast("type[Any]", hint))
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return _optional_reader([arg for arg in args if arg is not type(None)])
    if origin in (list, tuple):
        return _list_reader(_reader(args[0]), origin)
    if origin is dict:
        return _dict_reader(_reader(args[1]))
    return functools.partial(_read_plain, hint)


def _read_plain(kind: type[Any], value: Any, where: str) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise Damaged(f"{where}: expected {kind.__name__}, found {type(value).__name__}")
    if kind is str and not value.isascii():
        # half a surrogate pair is JSON, but no text that could be stored or sent
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if kind is float and not abs(value) < float("inf"):
        raise Damaged(f"{where}: {value} is no number")
    return value


def _read_enum(kind: type[enum.Enum], value: Any, where: str) -> enum.Enum:
    try:
        return kind(value)
    except ValueError:
        raise Damaged(f"{where}: {value!r} is not one of {[item.value for item in kind]}") from None


def _optional_reader(args: list[Any]) -> Callable[[Any, str], Any]:
    readers = [_reader(arg) for arg in args]

    def read(value: Any, where: str) -> Any:
        if value is None:
            return None
        for reader in readers[:-1]:
            try:
                return reader(value, where)
            except Damaged:
                continue
        return readers[-1](value, where)

    return read


def _list_reader(item: Callable[[Any, str], Any], kind: type[Any]) -> Callable[[Any, str], Any]:
    def read(value: Any, where: str) -> Any:
        if not isinstance(value, list):
            raise Damaged(f"{where}: expected a list, found {type(value).__name__}")
        return kind(item(each, f"{where}.{index}") for index, each in enumerate(value))

    return read


def _dict_reader(item: Callable[[Any, str], Any]) -> Callable[[Any, str], Any]:
    def read(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise Damaged(f"{where}: expected an object, found {type(value).__name__}")
        return {str(key): item(each, f"{where}.{key}") for key, each in value.items()}

    return read


def _record_reader(cls: type[Any]) -> Callable[[Any, str], Any]:
    hints = typing.get_type_hints(cls, include_extras=True)
    plan = [(field.name, camel(field.name), _reader(hints[field.name])) for field in dataclasses.fields(cls)]

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, dict):
            raise Damaged(f"{where}: expected an object, found {type(value).__name__}")
        known = {name: reader(value[key], f"{where}.{key}") for name, key, reader in plan if key in value}
        try:
            return cls(**known)
        except TypeError as error:
            raise Damaged(f"{where}: {error}") from None

    return read
