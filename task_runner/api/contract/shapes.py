"""What is answered and is no record of the client library."""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, TypedDict

from pydantic import Field as Described


class Success(TypedDict):
    """It is done."""

    success: Literal[True]

class Taken(TypedDict):
    """How much input there is by now."""

    #: with what came before
    bytes: int

class Api(TypedDict):
    """One version of the API."""

    root: str
    version: str
    min_version: str

class Index(TypedDict):
    """What there is, as Tessia's nodes say it."""

    name: str
    version: str
    apis: list[Api]

class Health(TypedDict):
    """The process answers."""

    status: Literal["ok"]

class Ready(TypedDict):
    """The daemon takes work."""

    status: Literal["ready"]

class Secret(TypedDict):
    """The name of a secret."""

    name: str
    #: "file" or "environment"
    source: str

#: one line of the audit log; in that which counts refused requests of many kinds most is null
AuditEntry = TypedDict(
    "AuditEntry",
    {
        "at": Annotated[str, Described(description="When the answer began; of a count: when its time was over.")],
        "token": Annotated[str | None, Described(description="The name of the token; `null`: there was none.")],
        "from": Annotated[str | None, Described(description="The address of the client, or `unix`.")],
        "surface": str | None,
        "method": str | None,
        "route": Annotated[str | None, Described(description="`null`: there is none that fits.")],
        "parameters": Annotated[dict[str, Any] | None, Described(description="What stood in the path.")],
        "tasks": Annotated[list[str] | None, Described(description="Those that it made or changed, at most 100.")],
        "batch": str | None,
        "status": Annotated[int | None, Described(description="`null`: the client had gone.")],
        "moreTasks": NotRequired[Annotated[int, Described(description="How many tasks there are beyond those.")]],
        "since": NotRequired[Annotated[str, Described(description="Of a count: since when.")]],
        "repeated": NotRequired[Annotated[int, Described(description="How many more like it were refused.")]],
        "dropped": NotRequired[Annotated[int, Described(description="Lines that could not be written.")]],
    },
)

class FieldFault(TypedDict):
    """What is wrong with one field."""

    #: its path, with dots; empty: the whole body
    field: str
    message: str

class _Problem(TypedDict):
    title: str
    status: int
    #: in words, for people
    detail: str

class Problem(_Problem, total=False):
    """Why a request was refused (RFC 9457)."""

    #: of a 400: each field at fault
    errors: list[FieldFault]
