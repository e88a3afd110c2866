"""The description as one HTML page: no script, one style sheet, nothing from elsewhere."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from task_runner.api.contract.base import JSON, PROBLEM
from task_runner.api.description.words import in_words

_CSS = Path(__file__).parent / "style.css"
POLICY = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


@functools.cache
def style() -> str:
    return _CSS.read_text()


def render(described: Mapping[str, Any]) -> str:
    """The page of an OpenAPI document."""
    info = described["info"]
    tags = list(_by_tag(described))
    body = [
        '<a class="skip" href="#main">To the content</a>',
        f'<header><h1>{escape(info["title"])} <small>{escape(info["version"])}</small></h1>',
        '<p><a href="/ui/">Tasks</a> · <a href="/v1/openapi.json">openapi.json</a> ·',
        '<a href="/v1/schema">schema</a></p>',
        "</header>",
        f'<nav aria-label="Operations">{"".join(_contents(tags))}</nav>',
        f'<main id="main"><section class="about">{_prose(info["description"])}</section>',
        *(part for tag, operations in tags for part in _part(tag, operations)),
        *_schemas(described["components"]["schemas"]),
        "</main>",
    ]
    head = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<title>{escape(info["title"])}: API</title><link rel="stylesheet" href="/docs/style.css"></head><body>'
    )
    return head + "\n".join(body) + "</body></html>\n"


Called = tuple[str, str, Mapping[str, Any]]


def _by_tag(described: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], list[Called]]]:
    """Each tag with its operations: method, path, operation."""
    for tag in described["tags"]:
        yield tag, list(operations_of(described, tag["name"]))


def operations_of(described: Mapping[str, Any], tag: str) -> Iterator[Called]:
    """Those of a tag, in the order of the routes; what is the same but for a slash is left out."""
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            if tag in operation["tags"] and not operation["operationId"].endswith("Slash"):
                yield method.upper(), path, operation


def _contents(tags: Iterable[tuple[Mapping[str, Any], list[Called]]]) -> Iterator[str]:
    for tag, operations in tags:
        yield f'<h2><a href="#{_anchor(tag["name"])}">{escape(tag["name"])}</a></h2><ul>'
        for method, path, operation in operations:
            yield f'<li><a href="#{operation["operationId"]}">{_method(method)} <span>{_path(path)}</span></a></li>'
        yield "</ul>"
    yield '<h2><a href="#schemas">Schemas</a></h2>'


def _part(tag: Mapping[str, Any], operations: Iterable[Called]) -> Iterator[str]:
    yield f'<section><h2 id="{_anchor(tag["name"])}">{escape(tag["name"])}</h2>{_prose(tag["description"])}'
    for called in operations:
        yield from _operation(*called)
    yield "</section>"


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> Iterator[str]:
    name = operation["operationId"]
    yield f'<article id="{name}"><h3>{_method(method)} <code>{_path(path)}</code> <a class="anchor" href="#{name}"'
    yield f' aria-label="Link to {name}">#</a></h3>{_prose(operation["summary"])}'
    if "description" in operation:
        yield _prose(operation["description"])
    yield f'<p class="needs">Needs: {escape(needs(operation))}</p>'
    if parameters := operation.get("parameters"):
        yield f"<h4>Parameters</h4>{_head('name', 'in', 'takes', 'meaning')}"
        for each in parameters:
            yield f'<tr><td><code>{escape(each["name"])}</code></td><td>{each["in"]}</td>'
            yield f'<td>{_marked(in_words(each["schema"]))}</td><td>{_marked(each["description"])}</td></tr>'
        yield "</tbody></table></div>"
    yield from _body(operation.get("requestBody"))
    yield f"<h4>Answers</h4>{_head('status', 'meaning', 'body')}"
    for status, answer in operation["responses"].items():
        yield f'<tr><td><code>{status}</code></td><td>{_marked(answer["description"])}{_headers(answer)}</td>'
        yield f"<td>{_content(answer)}</td></tr>"
    yield "</tbody></table></div>"
    for each in operation["x-codeSamples"]:
        yield f'<pre tabindex="0"><code>{escape(each["source"])}</code></pre>'
    yield "</article>"


def needs(operation: Mapping[str, Any]) -> str:
    """The scopes, in words."""
    ways = [way["token"] for way in operation["security"] if "token" in way]
    if not ways:
        return "no token"
    return " or ".join(" and ".join(way) for way in ways) or "any token"


def _body(body: Mapping[str, Any] | None) -> Iterator[str]:
    if body is None:
        return
    for media, content in body["content"].items():
        yield f'<h4>Body <small>{media}{"" if body["required"] else ", may be left out"}</small></h4>'
        schema = content.get("schema", {})
        if "properties" in schema:
            yield _fields(schema)
        elif schema:
            yield f"<p>{_marked(in_words(schema))}</p>"
        if "description" in body:
            yield _prose(body["description"])
        if "example" in content:
            yield f'<pre tabindex="0"><code>{escape(json.dumps(content["example"], indent=2))}</code></pre>'


def _headers(answer: Mapping[str, Any]) -> str:
    told = (f"<code>{name}</code>: {_marked(each['description'])}" for name, each in answer.get("headers", {}).items())
    return "".join(f'<br><small>{each}</small>' for each in told)


def _content(answer: Mapping[str, Any]) -> str:
    found = []
    for media, content in answer.get("content", {}).items():
        meaning = content.get("x-meaning")
        if media == JSON:
            found.append(_marked(in_words(content["schema"])))
        elif media == PROBLEM and meaning is None:
            found.append(_marked("[Problem](#Problem)"))
        else:
            found.append(f"<code>{media}</code>: {_marked(meaning or '')}")
    return "<br>".join(found)


def _schemas(schemas: Mapping[str, Any]) -> Iterator[str]:
    yield '<section><h2 id="schemas">Schemas</h2>'
    for name, schema in sorted(schemas.items()):
        told = _marked(schema.get("description", ""))
        yield f'<details id="{escape(name)}"><summary><code>{escape(name)}</code> {told}</summary>'
        yield f"{_fields(schema)}</details>"
    yield "</section>"


def _fields(schema: Mapping[str, Any]) -> str:
    if "properties" not in schema:
        return f"<p>{_marked(in_words({**schema, 'description': None}))}</p>"
    rows = "".join(
        f"<tr><td><code>{escape(name)}</code>{'*' if name in schema.get('required', ()) else ''}</td>"
        f"<td>{_marked(in_words(each))}</td><td>{_marked(each.get('description') or '')}</td></tr>"
        for name, each in schema["properties"].items()
    )
    return f"{_head('field', 'is', 'meaning')}{rows}</tbody></table></div>"


def _head(*names: str) -> str:
    """A table that can be moved by keyboard where it is too wide."""
    cells = "".join(f"<th>{name}</th>" for name in names)
    return f'<div class="wide" tabindex="0"><table><thead><tr>{cells}</tr></thead><tbody>'


def _method(method: str) -> str:
    return f'<b class="method {method.lower()}">{method}</b>'


def _path(path: str) -> str:
    """It may be broken behind each part."""
    return escape(path).replace("/", "/<wbr>")


def _anchor(name: str) -> str:
    return "tag-" + re.sub(r"[^a-z]+", "-", name.lower())


def _prose(text: str) -> str:
    return "".join(f"<p>{_marked(part)}</p>" for part in text.split("\n\n"))


def _marked(text: str) -> str:
    """What little Markdown there is: code, and links within the page."""
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
    return re.sub(r"\[([^\]]+)\]\((#[^)]+)\)", r'<a href="\2">\1</a>', safe)


