"""The description as Markdown: doc/reference/api.md."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from task_runner.api.contract.base import JSON, PROBLEM
from task_runner.api.description.page import needs, operations_of
from task_runner.api.description.words import in_words

_HEAD = """\
# Every call of `/v1`

Generated from the routes by `python -m task_runner.api.openapi markdown > doc/reference/api.md`; do not edit.

The same as a document for programs: [openapi.json](openapi.json); a daemon has it at `/v1/openapi.json`, and as a page
at `/docs`. What the calls are for, with examples and their answers: [api.md](../api.md).
"""


def render(described: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document."""
    lines = [_HEAD, *(line for tag in described["tags"] for line in _tag(described, tag))]
    return "\n".join([*lines, *_schemas(described["components"]["schemas"])]).rstrip()


def _tag(described: Mapping[str, Any], tag: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"## {tag['name']}", "", tag["description"], "")
    for method, path, operation in operations_of(described, tag["name"]):
        yield from (f"### {operation['operationId']}", "", f"`{method} {path}`", "", operation["summary"], "")
        if "description" in operation:
            yield from (operation["description"], "")
        yield from (f"Needs: {needs(operation)}.", "")
        yield from _parameters(operation)
        yield from _body(operation)
        yield from ("| status | meaning | body |", "| --- | --- | --- |")
        for status, answer in operation["responses"].items():
            headers = "".join(f"; `{name}`: {each['description']}" for name, each in answer.get("headers", {}).items())
            yield _row(status, answer["description"] + headers, _content(answer))
        yield ""
        for each in operation["x-codeSamples"]:
            yield from ("```sh", each["source"], "```", "")


def _parameters(operation: Mapping[str, Any]) -> Iterator[str]:
    if parameters := operation.get("parameters"):
        yield from ("| parameter | in | takes | meaning |", "| --- | --- | --- | --- |")
        for each in parameters:
            yield _row(f"`{each['name']}`", each["in"], in_words(each["schema"]), each["description"])
        yield ""


def _body(operation: Mapping[str, Any]) -> Iterator[str]:
    if (body := operation.get("requestBody")) is None:
        return
    for media, content in body["content"].items():
        schema = content.get("schema", {})
        if not body["required"] and not schema.get("properties"):
            continue
        kind = in_words(schema) if "$ref" in schema else ""
        yield from (f"Body: {_anchored(kind) or f'`{media}`'}{'' if body['required'] else ', may be left out'}.", "")
        yield from _fields(schema)


def _content(answer: Mapping[str, Any]) -> str:
    found = []
    for media, content in answer.get("content", {}).items():
        if media == JSON:
            found.append(in_words(content["schema"]))
        elif media == PROBLEM and "x-meaning" not in content:
            found.append("[Problem](#Problem)")
        else:
            found.append(f"`{media}`: {content.get('x-meaning', '')}")
    return "; ".join(found)


def _schemas(schemas: Mapping[str, Any]) -> Iterator[str]:
    yield from ("## Schemas", "", "`*`: always there.", "")
    for name, schema in sorted(schemas.items()):
        yield from (f"### {name}", "")
        if text := schema.get("description"):
            yield from (text, "")
        if "properties" in schema:
            yield from _fields(schema)
        else:
            yield from (_anchored(in_words(schema)), "")


def _fields(schema: Mapping[str, Any]) -> Iterator[str]:
    if properties := schema.get("properties"):
        yield from ("| field | is | meaning |", "| --- | --- | --- |")
        for name, each in properties.items():
            mark = "*" if name in schema.get("required", ()) else ""
            yield _row(f"`{name}`{mark}", in_words(each), each.get("description") or "")
        yield ""


def _row(*cells: str) -> str:
    return f"| {' | '.join(_anchored(cell).replace('|', chr(92) + '|').replace(chr(10), ' ') for cell in cells)} |"


def _anchored(text: str) -> str:
    """The anchors of Markdown are in small letters, without dots."""
    return re.sub(r"\(#([^)]+)\)", lambda found: f"(#{re.sub('[^a-z0-9_-]', '', found[1].lower())})", text)
