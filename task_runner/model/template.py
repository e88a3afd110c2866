"""A template: a task with gaps, and what may be put into them."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from task_runner.model.constraints import STRICT, Limit

#: what a placeholder is replaced by
Value = bool | int | float | str
ParameterName = Annotated[str, Limit(min_length=1, max_length=100, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Length = Annotated[int, Limit(ge=0, le=1_048_576)]


class ParameterType(enum.Enum):
    """The kinds of values."""

    STRING = "string"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """What one parameter takes. It must be given where there is no default."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: the kind of its value
    type: ParameterType = ParameterType.STRING
    #: for people
    description: Annotated[str, Limit(max_length=10_000)] | None = None
    #: taken where none is given
    default: Value | None = None
    #: it is one of these
    choices: Annotated[list[Value], Limit(min_length=1, max_length=1000)] | None = None
    #: of a string: a regular expression that the whole of it matches (without look-around and back-references)
    pattern: Annotated[str, Limit(min_length=1, max_length=1000)] | None = None
    #: of a string: no fewer characters
    min_length: Length | None = None
    #: of a string: no more characters
    max_length: Length | None = None
    #: of a number: no less
    minimum: float | None = None
    #: of a number: no more
    maximum: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Template:
    """A task with placeholders: ``${name}`` in its strings."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: for people
    description: Annotated[str, Limit(max_length=10_000)] | None = None
    #: what may be put into the gaps, by name
    parameters: Annotated[dict[ParameterName, Parameter], Limit(max_length=100)] = field(default_factory=dict)
    #: as for POST /v1/tasks, in any of its forms
    task: dict[str, Any]
