"""How a task ended, for who wants no more than that."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from task_runner.client.errors import TaskFailed
from task_runner.client.records import Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How a task ended. What is not known is None."""

    task_id: str
    outcome: str
    #: of the action that decided the outcome; one of them, or neither where nothing could be started
    exit_code: int | None
    signal: str | None
    attempt: int

    @property
    def ok(self) -> bool:
        return self.outcome == "succeeded"

    @property
    def ending(self) -> str:
        """The outcome in words."""
        how = f", exit code {self.exit_code}" if self.exit_code is not None else ""
        return self.outcome + (f", {self.signal}" if self.signal else how)

    def check(self) -> Self:
        """Itself. Raises TaskFailed where the task did not succeed."""
        if not self.ok:
            raise TaskFailed(self)
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed(Result):
    """What `run` returns: the task, and all that it wrote."""

    task: Task = field(repr=False)
    output: bytes = field(repr=False)
    #: where the task keeps it apart from output
    stderr: bytes | None = field(repr=False)


def ending_of(known: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a Result, of a task that is over or of the event that says so."""
    return {
        "task_id": known["taskId"],
        "outcome": known["outcome"],
        "exit_code": known["exitCode"],
        "signal": known["signal"],
        "attempt": known["attempt"],
    }
