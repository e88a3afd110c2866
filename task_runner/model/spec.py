"""What a task asks for. Accepted once, never changed.

These classes are read by two programs: the daemon validates requests against them with pydantic, the
runner reads the result with `model.codec` and the standard library. So constraints are annotations.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from task_runner.model.constraints import STRICT, Limit

#: no NUL: the kernel ends a string there
Text = Annotated[str, Limit(max_length=131_072, pattern=r"^[^\x00]*$")]
Name = Annotated[str, Limit(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
Seconds = Annotated[float, Limit(gt=0, le=10 * 365 * 86_400)]
Grace = Annotated[float, Limit(ge=0, le=86_400)]
SignalName = Annotated[str, Limit(pattern=r"^SIG[A-Z0-9]{2,10}$")]
TagKey = Annotated[str, Limit(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f=]+$")]
TagValue = Annotated[str, Limit(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]
VariableName = Annotated[str, Limit(min_length=1, max_length=1000, pattern=r"^[^\x00=]+$")]


@dataclass(frozen=True, kw_only=True, slots=True)
class Action:
    """One step of a task."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: the kind of the step: "process", "echo", or a name from the entry point group task_runner.machines
    machine: Name
    #: what the machine is to do; its shape is the machine's own
    parameters: Any = None
    #: for people
    name: Name | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Spec:
    """One unit of work."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: run in order; the first that does not succeed ends the task
    actions: Annotated[list[Action], Limit(min_length=1, max_length=100)]
    #: for people
    name: Name | None = None
    #: the task is stopped when it has run for this long, pauses not counted; none: no limit
    timeout_seconds: Seconds | None = None
    #: the polite signal of a stop
    stop_signal: SignalName = "SIGTERM"
    #: seconds between the polite signal and SIGKILL
    grace_seconds: Grace = 10.0
    #: for filters: short keys and values
    tags: Annotated[dict[TagKey, TagValue], Limit(max_length=50)] = field(default_factory=dict)
    #: for the client, kept and given back as it is
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessParameters:
    """What the `process` machine runs: exactly one of ``command`` and ``shell``."""

    __pydantic_config__: ClassVar[Any] = STRICT

    #: program and arguments; no shell is involved
    command: Annotated[list[Text], Limit(min_length=1, max_length=10_000)] | None = None
    #: a line for /bin/sh -c
    shell: Text | None = None
    #: variables beside the basic ones (PATH, HOME, USER, LANG …)
    env: Annotated[dict[VariableName, Text], Limit(max_length=10_000)] = field(default_factory=dict)
    #: where to run; relative to the task's work/ directory, which is the default
    working_directory: Text | None = None
    #: what the command reads on its standard input; none: it is empty
    stdin: Annotated[str, Limit(max_length=1_048_576)] | None = None
