"""The contract of one call, as a record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request

from task_runner.api.body import body_object, only
from task_runner.api.params import Parameter

JSON = "application/json"
PROBLEM = "application/problem+json"
BYTES = "application/octet-stream"
EVENTS = "text/event-stream"


@dataclass(frozen=True, kw_only=True, slots=True)
class Field:
    """One of a small body, of which the check stands beside the code that uses it."""

    schema: Mapping[str, Any]
    meaning: str
    required: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Fields:
    """A JSON object; where none of its fields is required, there need be no body at all."""

    fields: Mapping[str, Field] = field(default_factory=dict)
    example: Mapping[str, Any] | None = None

    @property
    def required(self) -> list[str]:
        return [name for name, each in self.fields.items() if each.required]

    async def of(self, request: Request) -> dict[str, Any]:
        """The object that a request brings. Raises InvalidRequest, also for a field that is none of these."""
        body = await body_object(request)
        only(body, *self.fields)
        return body


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """A JSON value that a schema of the components describes."""

    component: str
    example: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Bytes:
    """Anything, as it is."""

    meaning: str


Body = Fields | Document | Bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """What comes with one status."""

    meaning: str
    #: the type that its JSON is of
    shape: Any = None
    #: and other media, each with what it is
    media: Mapping[str, str] = field(default_factory=dict)
    #: header: what it says
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Operation:
    """A call. ``id`` is its name in generated clients, and its anchor."""

    id: str
    tag: str
    summary: str
    #: more about it; Markdown of one paragraph or several
    text: str = ""
    #: those of the path are known by their names (PATH)
    parameters: Sequence[Parameter] = ()
    body: Body | None = None
    answers: Mapping[int, Answer]
    #: the reason of each refusal that not every call has
    refuses: Mapping[int, str] = field(default_factory=dict)
    #: the query of the example
    example: str = ""
    #: operations that go on from the answer: name of a path parameter → where it stands in the body
    leads: Sequence[tuple[str, str, str]] = ()


def page_of(shape: Any, meaning: str) -> Mapping[int, Answer]:
    """An array, and where it goes on."""
    link = {"Link": 'Leads to the next page, `rel="next"`, where there may be one.'}
    return {200: Answer(meaning=meaning, shape=shape, headers=link)}


def ok(shape: Any, meaning: str = "Done.") -> Mapping[int, Answer]:
    return {200: Answer(meaning=meaning, shape=shape)}


FULL = {507: "The state directory is full: nothing has changed."}
BUSY = {503: "Too many streams are open (`max_streams`); `Retry-After` says when to ask again."}
