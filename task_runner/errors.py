"""Everything that can go wrong, as one tree.

    TaskRunnerError
    ├── InvalidRequest      what was asked makes no sense; carries a list of FieldError
    ├── TooLarge            the body of the request is larger than allowed
    ├── Forbidden           the token that was shown does not allow it
    ├── NotFound            no such task
    ├── Conflict            it exists, but not in a state that allows this
    ├── StorageFull         it could not be kept, so it was not accepted
    ├── Unavailable         not now: starting, draining or shutting down
    ├── StartFailed         an action's process could not be started
    ├── ActionFailed        a machine could not do what it was asked to
    ├── EngineFailed        a container engine refused, or did not answer
    │   └── EngineMissing   there is none; says what to install or to start
    ├── Damaged             a file does not say what its format demands
    └── Refused             the daemon will not start like this
        ├── StateDirectoryBusy   another daemon holds the state directory
        └── UnsafeBind           the address would let strangers in

This module knows no HTTP status and no exit code: each edge translates once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One thing wrong with one field."""

    #: where, as a dotted path into what was sent ("actions.0.parameters.command"); "" is the whole body
    field: str
    #: what is wrong and what would be right
    message: str


class TaskRunnerError(Exception):
    """Something went wrong."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or self.__doc__ or type(self).__name__)


class InvalidRequest(TaskRunnerError):
    """The request is not valid."""

    def __init__(self, message: str | None = None, fields: Sequence[FieldError] = ()) -> None:
        self.fields = list(fields)
        if message is None and self.fields:
            message = "; ".join(f"{e.field}: {e.message}" if e.field else e.message for e in self.fields[:3])
        super().__init__(message)

    @classmethod
    def at(cls, field: str, message: str) -> InvalidRequest:
        """The common case: one field, one fault."""
        return cls(fields=[FieldError(field, message)])


class TooLarge(TaskRunnerError):
    """The request body is larger than allowed."""


class Forbidden(TaskRunnerError):
    """The token may not do this."""


class NotFound(TaskRunnerError):
    """No such task."""


class Conflict(TaskRunnerError):
    """The task is not in a state that allows this."""


class StorageFull(TaskRunnerError):
    """The state directory has no space left: nothing was accepted."""


class Unavailable(TaskRunnerError):
    """The daemon does not take this now."""


class StartFailed(TaskRunnerError):
    """The command could not be started."""


class EngineFailed(TaskRunnerError):
    """The container engine could not do what it was asked to."""


class EngineMissing(EngineFailed):
    """There is no such container engine."""


class ActionFailed(TaskRunnerError):
    """The action could not be carried out."""


class Damaged(TaskRunnerError):
    """The file is damaged."""


class Refused(TaskRunnerError):
    """The daemon refuses to start."""


class StateDirectoryBusy(Refused):
    """Another daemon holds the state directory."""


class UnsafeBind(Refused):
    """The address would be open to strangers."""
