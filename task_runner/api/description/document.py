"""The document: OpenAPI 3.1, from the routes and the contracts that they have."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from task_runner import __version__
from task_runner.api.access import SAFE_METHODS, Door
from task_runner.api.contract.base import BYTES, JSON, PROBLEM, Answer, Body, Bytes, Document, Operation
from task_runner.api.contract.path import PATH
from task_runner.api.contract.shapes import Problem
from task_runner.api.contract.tags import TAGS
from task_runner.api.description import schemas
from task_runner.api.description.schemas import Answers
from task_runner.api.params import Parameter
from task_runner.model.scopes import Scope

TITLE = "Task Runner"
_ABOUT = """\
Takes work over HTTP and runs every task in a process, a directory and a log of its own.

Every call needs a token, except where it says otherwise; what it may do is said by its scopes. A body is JSON in \
UTF-8 and says so. Times are ISO 8601 in UTC, durations are seconds. What is not known is `null`. A refusal has a body \
of type `application/problem+json`. `HEAD` answers as `GET` does, without the body. An answer may have fields that are \
not described: those of a newer daemon."""
_REFUSED = {
    400: "The request makes no sense; `errors` names each field at fault.",
    401: "The token is missing or wrong, was revoked, or has expired.",
    403: "The token lacks a scope, which `detail` names; or the request comes from a page of another site.",
    404: "There is no such thing.",
    413: "The body is too large (`max_body_bytes`).",
    415: "The body is not of the type that is expected, or is compressed.",
    421: "The request is addressed to a name that is not the daemon's (`allowed_hosts`).",
}
_HEADERS = {401: {"WWW-Authenticate": "`Bearer`"}, 503: {"Retry-After": "Seconds."}}
_LICENCE = {"name": "Apache-2.0", "identifier": "Apache-2.0"}
_SCOPES = f"Scopes: {', '.join(f'`{scope}`' for scope in Scope)}. `admin` has all, `submit` has `submit-template`."
_SESSION = "Of a browser that has logged in to the web page. Where the address has a port, that ends the name."


def describe(routes: Iterable[Door]) -> dict[str, Any]:
    """OpenAPI of these routes; of those that have no contract nothing is said."""
    doors = [door for door in routes if door.doc is not None]
    shapes = schemas.answers()
    shapes.of(Problem)
    paths: dict[str, dict[str, Any]] = {}
    for door in doors:
        for method in sorted((door.methods or set()) - {"HEAD"}):
            paths.setdefault(door.path_format, {})[method.lower()] = _operation(door, method, shapes)
    used = {door.doc.tag for door in doors if door.doc is not None}
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": __version__, "description": _ABOUT, "license": _LICENCE},
        "tags": [{"name": name, "description": text} for name, text in TAGS.items() if name in used],
        "paths": paths,
        "components": {
            "schemas": {**schemas.components(), **shapes.components},
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "description": _SCOPES},
                "session": {"type": "apiKey", "in": "cookie", "name": "task-runner", "description": _SESSION},
            },
        },
        "security": [{"token": []}, {"session": []}],
    }


def _operation(door: Door, method: str, shapes: Answers) -> dict[str, Any]:
    doc = door.doc
    assert doc is not None
    alias = door.path != "/" and door.path.endswith("/")
    text = "The same as without the slash at the end." if alias else doc.text
    parameters = [*(PATH[name] for name in door.param_convertors), *doc.parameters]
    return {
        "operationId": doc.id + ("Slash" if alias else ""),
        "tags": [doc.tag],
        "summary": doc.summary,
        **({"description": text} if text else {}),
        **({"parameters": [_parameter(each) for each in parameters]} if parameters else {}),
        **({"requestBody": _body(doc.body)} if doc.body is not None else {}),
        "responses": dict(_responses(door, doc, method, shapes)),
        **_security(door),
        "x-codeSamples": [{"lang": "Shell", "label": "curl", "source": sample(door.path_format, method, doc)}],
    }


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.meaning,
        **({"required": True} if parameter.place == "path" else {}),
        "schema": parameter.schema(),
        **parameter.style(),
    }


def _body(body: Body) -> dict[str, Any]:
    if isinstance(body, Bytes):
        return {"required": True, "description": body.meaning, "content": {BYTES: {}}}
    if isinstance(body, Document):
        content = {"schema": schemas.ref(body.component), "example": body.example}
        return {"required": True, "content": {JSON: content}}
    fields = {name: {**each.schema, "description": each.meaning} for name, each in body.fields.items()}
    required = {"required": body.required} if body.required else {}
    schema = {"type": "object", "properties": fields, "additionalProperties": False, **required}
    example = {} if body.example is None else {"example": body.example}
    return {"required": bool(body.required), "content": {JSON: {"schema": schema, **example}}}


def _responses(door: Door, doc: Operation, method: str, shapes: Answers) -> Iterator[tuple[str, dict[str, Any]]]:
    found = {status: _answer(each, doc, shapes) for status, each in doc.answers.items()}
    for status, reason in {**_usual(door, doc, method), **doc.refuses}.items():
        headers = {name: _header(text) for name, text in _HEADERS.get(status, {}).items()}
        content = {PROBLEM: {"schema": schemas.ref("Problem")}}
        more = {"headers": headers} if headers else {}
        found.setdefault(status, {"description": reason, **more, "content": content})
    yield from ((str(status), found[status]) for status in sorted(found))


def _usual(door: Door, doc: Operation, method: str) -> Mapping[int, str]:
    """The refusals that come of what a call is like."""
    changes = method not in SAFE_METHODS
    wanted = {
        400: bool(doc.parameters) or doc.body is not None or "attempt" in door.param_convertors,
        401: not door.need.open,
        403: True,
        404: bool(door.param_convertors),
        413: changes,
        415: changes,
        421: True,
    }
    return {status: _REFUSED[status] for status, is_so in wanted.items() if is_so}


def _answer(answer: Answer, doc: Operation, shapes: Answers) -> dict[str, Any]:
    content: dict[str, Any] = {}
    if answer.shape is not None:
        content[JSON] = {"schema": shapes.of(answer.shape)}
    for media, meaning in answer.media.items():
        if media == PROBLEM:
            content[media] = {"schema": schemas.ref("Problem")}
        else:
            text = {"schema": {"type": "string"}} if media.startswith("text/") else {}
            content[media] = {**text, "x-meaning": meaning}
    links = {
        name: {"operationId": name, "parameters": {parameter: f"$response.body#{pointer}"}}
        for name, parameter, pointer in doc.leads
    }
    return {
        "description": answer.meaning,
        **({"headers": {name: _header(text) for name, text in answer.headers.items()}} if answer.headers else {}),
        **({"content": content} if content else {}),
        **({"links": links} if links else {}),
    }


def _header(text: str) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "string"}}


def _security(door: Door) -> dict[str, Any]:
    if door.need.open:
        return {"security": []}
    scopes = [str(scope) for scope in door.need.scopes]
    ways = [scopes] if door.need.every else [[scope] for scope in scopes]
    return {"security": [{kind: way} for way in ways for kind in ("token", "session")]}


def sample(path: str, method: str, doc: Operation) -> str:
    """A call by curl."""
    body = doc.body
    words = ["curl"] if doc.id == "getHealth" else ["curl", "-H", '"$AUTH"']
    given = None if body is None or isinstance(body, Bytes) else body.example
    if method != ("GET" if body is None else "POST") or (body is not None and given is None):
        words += ["-X", method]
    if isinstance(body, Bytes):
        words = [*words[:3], "-H", f"'Content-Type: {BYTES}'", "--data-binary", "@FILE"]
    elif given is not None:
        words += ["--json", shlex.quote(json.dumps(given))]
    address = "$URL" + path.replace("{", "$").replace("}", "").replace("$task_id", "$ID").replace("$batch_id", "$BATCH")
    return " ".join([*words, f'"{address}{"?" + doc.example if doc.example else ""}"'])

