"""JSON as Go's encoding/json reads and writes it, which the clients of this system are used to.

Reading: what follows the first value is not looked at, bytes that are no UTF-8 and lone surrogates become U+FFFD, keys
are matched whatever their case, and null is the same as nothing. Writing: < > & and the line separators of Unicode are
escaped, and a line feed ends it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from pydantic_core import to_json

from task_runner.errors import InvalidRequest

_SPACE = " \t\r\n"
_ESCAPED = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_TO_ESCAPE = re.compile("|".join(_ESCAPED).encode())
#: what Go says where Python says this
_WORDS = {
    "Expecting value": "looking for beginning of value",
    "Expecting property name enclosed in double quotes": "looking for beginning of object key string",
    "Illegal trailing comma before end of object": "looking for beginning of object key string",
    "Illegal trailing comma before end of array": "looking for beginning of value",
    "Expecting ':' delimiter": "after object key",
    "Expecting ',' delimiter": "after a value",
    "Invalid control character at": "in string literal",
    "Invalid \\escape": "in string escape code",
    "Invalid \\uXXXX escape": "in \\u hexadecimal character escape",
}
_KINDS = {bool: "bool", str: "string", list: "array", dict: "object"}

#: turns a value, which is not null, into what a field holds; told where it stands
Read = Callable[[Any, str], Any]


def decode(body: bytes) -> Any:
    """The first value of a body. Raises InvalidRequest with Go's words for what is wrong."""
    text = body.decode(errors="replace").lstrip(_SPACE)
    if not text:
        raise InvalidRequest("EOF")
    try:
        value, _end = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        raise InvalidRequest(_complaint(error)) from None
    except RecursionError:
        raise InvalidRequest("exceeded max depth") from None
    return _without_surrogates(value) if "\\ud" in text.lower() else value


def _complaint(error: json.JSONDecodeError) -> str:
    if error.pos >= len(error.doc) or error.msg.startswith("Unterminated string"):
        return "unexpected EOF"
    return f"invalid character {_quoted(error.doc[error.pos])} {_WORDS.get(error.msg, 'in a value')}"


def _quoted(character: str) -> str:
    named = {"'": "'\\''", '"': "'\"'"}
    return named.get(character) or f"'{character if character.isprintable() else repr(character)[1:-1]}'"


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Of names that stand twice the later one counts, and it is there that it stands."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        found.pop(name, None)
        found[name] = value
    return found


def _no_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"invalid character {_quoted(name.lstrip('-')[0])} looking for beginning of value")


def _whole(digits: str) -> int:
    """Raises InvalidRequest for more digits than Python turns into a number."""
    try:
        return int(digits)
    except ValueError:
        raise InvalidRequest(f"json: a number of {len(digits)} digits is not read here") from None


def _fraction(digits: str) -> float:
    """Raises InvalidRequest for one that is too large: infinity could be kept, and not be written again."""
    if math.isinf(value := float(digits)):
        raise InvalidRequest(f"json: cannot unmarshal number {digits[:80]} into Go value of type float64")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_no_constant, parse_int=_whole, parse_float=_fraction
)


def _without_surrogates(value: Any) -> Any:
    text = json.dumps(value, ensure_ascii=False)
    return json.loads(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def encode(value: Any) -> bytes:
    """A value as a body."""
    return _TO_ESCAPE.sub(lambda found: _ESCAPED[found[0].decode()].encode(), to_json(value)) + b"\n"


# -- from values to fields; `where` is "Go value" or "Go struct field Type.path"


def mismatch(value: Any, where: str, kind: str) -> InvalidRequest:
    """Something else stands where ``kind``, a type of Go, is expected."""
    found = _KINDS.get(type(value)) or ("number" if kind == "string" else f"number {value}")
    return InvalidRequest(f"json: cannot unmarshal {found} into {where} of type {kind}")


def text(value: Any, where: str) -> str:
    """A string."""
    if not isinstance(value, str):
        raise mismatch(value, where, "string")
    return value


def int64(value: Any, where: str) -> int:
    """A whole number of 64 bits."""
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise mismatch(value, where, "int64")
    return value


def texts(value: Any, where: str) -> list[str]:
    """Strings; null among them is an empty one."""
    if not isinstance(value, list):
        raise mismatch(value, where, "[]string")
    return ["" if each is None else text(each, where) for each in value]


def mapping(kind: str) -> Read:
    """An object that is kept as it is."""

    def read(value: Any, where: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise mismatch(value, where, kind)
        return value

    return read


def fields(value: Any, where: str, kind: str, reads: Mapping[str, Read], path: str = "") -> dict[str, Any]:
    """What an object says of these fields; those that it does not name, and those that are null, are left out.

    ``kind``: its type, with the package. ``path``: the fields that led to it, each with a full stop behind it.
    """
    if not isinstance(value, dict):
        raise mismatch(value, where, kind)
    found = {}
    folded = {name.lower(): name for name in reads}
    for key, item in value.items():
        name = folded.get(key.lower())
        if name is not None and item is not None:
            found[name] = reads[name](item, f"Go struct field {kind.rpartition('.')[2]}.{path}{name}")
    return found
