"""A process as clients ask for it, as a body of `/v1`."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from task_runner.api.dialects.executor.wire import Asked, Process
from task_runner.errors import FieldError, InvalidRequest

#: seconds between SIGTERM and SIGKILL
GRACE = 10
#: in place of a time limit that has passed before the start; the command is started all the same, as it is there
AT_ONCE = 0.001


def body_of_process(asked: Asked, process: Process) -> dict[str, Any]:
    """What a task's process asks for. Raises InvalidRequest."""
    if not process.words:
        raise InvalidRequest(f"failed to start task: no command specified in process spec (task name: {asked.name})")
    parameters: dict[str, Any] = {"command": process.words, "env": _env(process, _prefix(asked))}
    if process.working_dir:
        parameters["workingDirectory"] = process.working_dir
    return {
        "actions": [{"machine": "process", "parameters": parameters}],
        **_timeout(process.timeout_seconds),
        "graceSeconds": GRACE,
        "outputMode": "separate",
    }


def _timeout(seconds: int | None) -> dict[str, Any]:
    return {} if seconds is None else {"timeoutSeconds": max(seconds, AT_ONCE)}


def _prefix(asked: Asked) -> str:
    return "spec." if asked.guide else ""


def _env(process: Process, prefix: str) -> dict[str, str]:
    """Of variables of one name the last one counts; one without a name is passed over."""
    for index, each in enumerate(process.env):
        if each.name and each.value_from is not None:
            raise InvalidRequest.at(
                f"{prefix}process.env.{index}.valueFrom", "there is no cluster here to ask; give the value itself"
            )
    return {each.name: each.value for each in process.env if each.name}


def check_name(name: str) -> None:
    """Raises InvalidRequest for a name that would lead out of a directory. Names are no directories here, but clients
    are told of such a one all the same."""
    if not f"{posixpath.normpath('/tasks/' + name)}/".startswith("/tasks/"):
        raise InvalidRequest("failed to persist task: invalid task name: path traversal detected")


def in_their_words(error: InvalidRequest, asked: Asked) -> InvalidRequest:
    """The same refusal, with fields as the client has them."""
    command = asked.process.command or [] if asked.process else []
    faults: dict[FieldError, None] = {}  # a name is faulty as that, and as the alias
    for fault in error.fields:
        field = _field(fault.field, len(command))
        where = _prefix(asked) if field.startswith("process.") else ""
        faults[FieldError(where + field, fault.message)] = None
    return InvalidRequest(fields=list(faults)) if faults else error


def _field(field: str, commands: int) -> str:
    if field == "alias":
        return "name"
    if field == "timeoutSeconds":
        return "process.timeoutSeconds"
    if word := re.fullmatch(r"actions\.0\.parameters\.command\.(\d+)", field):
        index = int(word[1])
        return f"process.command.{index}" if index < commands else f"process.args.{index - commands}"
    field = field.replace("actions.0.parameters.workingDirectory", "process.workingDir")
    return re.sub(r"^actions\.0\.parameters\.(env|command)\b", r"process.\1", field)
