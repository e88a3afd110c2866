"""A task as clients see it.

Every task is shown in the flat shape of the released code. One that was asked for in the shape of the usage guide has
`spec` and `status` besides; a Go client of the released code decodes it all the same, since it passes over fields that
its type does not have, and neither name is like one of those, whatever the case. A task that was asked for in the flat
shape is shown as the released code shows it, and nothing else.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from errno import EACCES
from typing import Any

from task_runner.api.dialects.executor.wire import Asked
from task_runner.lib.signals import parse
from task_runner.model.state import Outcome, State
from task_runner.model.status import Status
from task_runner.service.task import Record, Task

#: what clients call a task is its alias without this
PREFIX = "executor:"
_KEY = "executor"

_WAITING = {State.SCHEDULED, State.PENDING, State.STARTING, State.PROVISIONING}
_KILLED, _TERMINATED = 137, 143
_NOT_EXECUTABLE, _NOT_FOUND = 126, 127


def name_of(task: Task) -> str:
    """What clients call it."""
    return (task.alias or "").removeprefix(PREFIX)


def kept(asked: Asked) -> dict[str, Any]:
    """What of a client's own words is kept with the task, as its metadata."""
    words: dict[str, Any] = {
        "process": asked.process and asked.process.json(),
        "podTemplateSpec": asked.pod_template,
        "container": asked.container,
        "timeoutSeconds": asked.timeout_seconds,
        "guide": asked.guide or None,
    }
    return {_KEY: {name: value for name, value in words.items() if value is not None}}


def words_of(task: Task) -> dict[str, Any]:
    """The same, read again; empty where it is not there."""
    words = (task.spec.metadata or {}).get(_KEY)
    return words if isinstance(words, dict) else {}


def task_json(task: Task, pending_reason: str | None, pod_status: dict[str, Any] | None = None) -> dict[str, Any]:
    """A task. ``pod_status``: where it is one of containers."""
    words = words_of(task)
    state = _state(task, words, pending_reason)
    shown: dict[str, Any] = {
        "name": name_of(task),
        "process": words.get("process"),
        "podTemplateSpec": words.get("podTemplateSpec"),
        "processStatus": state,
        "podStatus": pod_status,
    }
    if words.get("guide"):
        spec = {name: words.get(name) for name in ("process", "container", "timeoutSeconds")}
        shown["spec"] = {name: value for name, value in spec.items() if value is not None}
        shown["status"] = {"state": _in_the_guides_words(state)}
    return {name: value for name, value in shown.items() if value is not None}


def _in_the_guides_words(state: dict[str, Any]) -> dict[str, Any]:
    if "waiting" not in state:
        return state
    return {"waiting": {**state["waiting"], "reason": "Initialized"}}


def _state(task: Task, words: dict[str, Any], pending_reason: str | None) -> dict[str, Any]:
    record = task.record
    status = record.status
    if record.state in _WAITING:
        message = {} if pending_reason is None else {"message": pending_reason}
        return {"waiting": {"reason": "Pending", **message}}
    started = whole_seconds(status.started_at if status else None)
    if not task.final:
        return {"running": {"startedAt": started}}
    ending = _ending(record, words)
    told = {
        "exitCode": ending.exit_code,
        **({} if (number := _signal(status)) is None else {"signal": number}),
        "reason": ending.reason,
        **({} if ending.message is None else {"message": ending.message}),
        "startedAt": started,
        "finishedAt": whole_seconds(record.finished_at),
    }
    return {"terminated": told}


@dataclass(frozen=True, slots=True)
class _Ending:
    exit_code: int
    reason: str
    message: str | None = None


def _ending(record: Record, words: dict[str, Any]) -> _Ending:
    """How a task ended. Its wire has an exit code for every ending: where there was none, the one that is usual
    there."""
    status = record.status
    match record.outcome:
        case Outcome.SUCCEEDED:
            return _Ending(0, "Succeeded")
        case Outcome.TIMED_OUT:
            return _Ending(_KILLED, "TaskTimeout", _timeout_message(record, words))
        case Outcome.CANCELLED:
            return _cancelled(status)
        case Outcome.FAILED:
            return _Ending(_failed(status, record.error), "Failed", record.error)
        case _:
            evidence = f": {record.error}" if record.error else ""
            return _Ending(_KILLED, "ProcessCrashed", f"Process exited without writing exit code{evidence}")


def _timeout_message(record: Record, words: dict[str, Any]) -> str | None:
    seconds = (words.get("process") or {}).get("timeoutSeconds", words.get("timeoutSeconds"))
    return record.error if seconds is None else f"Task exceeded timeout of {seconds} seconds"


def _cancelled(status: Status | None) -> _Ending:
    """0 would tell a client that all was done."""
    if status is None or status.started_at is None:
        return _Ending(_TERMINATED, "Failed", "Task was stopped before it started")
    code = _exit_code(status)
    if code:
        return _Ending(code, "Failed", "Task was stopped")
    said = "" if code is None else "; its command ended with exit code 0"
    return _Ending(_TERMINATED, "Failed", f"Task was stopped{said}")


def _failed(status: Status | None, error: str | None) -> int:
    code = _exit_code(status)
    if code is not None:
        return code or 1
    # as a shell has it, which upstream puts around every command
    return _NOT_EXECUTABLE if (error or "").endswith(os.strerror(EACCES)) else _NOT_FOUND


def _exit_code(status: Status | None) -> int | None:
    """As a shell has it: of a command that a signal ended, 128 and its number."""
    if status is not None and status.exit_code is not None:
        return status.exit_code
    number = _signal(status)
    return None if number is None else 128 + number


def _signal(status: Status | None) -> int | None:
    return int(parse(status.signal)) if status and status.signal else None


def whole_seconds(stamp: str | None) -> str | None:
    """A stamp as Kubernetes has it: in UTC, without a fraction; null where it is not known."""
    return stamp and f"{stamp[:19]}Z"
