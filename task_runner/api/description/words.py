"""A JSON schema in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

_BOUNDS = (
    ("minimum", "at least {}"),
    ("exclusiveMinimum", "more than {}"),
    ("maximum", "at most {}"),
    ("minLength", "at least {} characters"),
    ("maxLength", "at most {} characters"),
    ("minItems", "at least {} elements"),
    ("maxItems", "at most {} elements"),
    ("maxProperties", "at most {} names"),
    ("pattern", "like `{}`"),
)
#: a bound that nobody meets
_VAST = 2**53


def target(schema: Mapping[str, Any]) -> str:
    """The name of the component that a reference leads to, or into."""
    return str(schema["$ref"]).removeprefix("#/components/schemas/")


def in_words(schema: Mapping[str, Any]) -> str:
    """What it takes, as Markdown; a component is a link to its anchor."""
    words = _kind(schema)
    told = {name: each for name, each in schema.items() if not (name == "maximum" and each >= _VAST)}
    bounds = [text.format(told[name]) for name, text in _BOUNDS if told.get(name) is not None]
    default = schema.get("default")
    if default is not None and default not in ([], {}):
        bounds.append(f"by default `{json.dumps(default)}`")
    return ", ".join([words, *bounds])


def _kind(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = target(schema)
        return f"[{name.rsplit('/', 1)[-1]}](#{name.split('/')[0]})"
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(each)}`" for each in schema["enum"])
    for union in ("anyOf", "oneOf"):
        if union in schema and "properties" not in schema:
            return " or ".join(dict.fromkeys(in_words(each) for each in schema[union]))
    kind = schema.get("type")
    if isinstance(kind, list):
        return " or ".join(kind)
    if kind == "array":
        items = schema.get("items")
        return f"array of {in_words(items)}" if items else "array"
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        return f"object, each with {in_words(schema['additionalProperties'])}"
    if kind is None:
        return "anything"
    return f"{kind} ({schema['format']})" if "format" in schema else str(kind)
