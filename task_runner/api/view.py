"""A task as `/v1` shows it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from task_runner.lib.clock import stamp
from task_runner.model.codec import to_json
from task_runner.model.state import Outcome, State
from task_runner.model.status import Output, Status
from task_runner.service.task import Past, Task

#: the path of the file with a stream of a task's output
PathOf = Callable[[str], str]


def _seen(task: Task, known: Output | None, path: str) -> Output | None:
    """What has been written so far. The last status of a task that is over says it; else the file is asked."""
    if known is None or task.record.state is State.EXITED:
        return known
    try:
        seen = os.stat(path, follow_symlinks=False)
    except OSError:
        return known
    return replace(known, bytes=seen.st_size, written_at=stamp(seen.st_mtime) if seen.st_size else None)


def task_json(
    task: Task, pending_reason: str | None, path_of: PathOf, unforwarded: Callable[[], int | None]
) -> dict[str, Any]:
    """What is not known is null. ``unforwarded``: lines of output that were to be forwarded and were not."""
    status = task.record.status
    output = _seen(task, status.output if status else None, path_of("stdout" if status and status.stderr else "output"))
    stderr = _seen(task, status.stderr if status else None, path_of("stderr"))
    record = task.record
    spec = json.loads(task.spec_json)
    return {
        "taskId": task.id,
        "state": record.state.value,
        "outcome": record.outcome and record.outcome.value,
        "exitCode": status.exit_code if status else None,
        "signal": status.signal if status else None,
        "stalled": to_json(task.stalled),
        "pendingReason": pending_reason,
        "currentActionIdx": status.current_action_idx if status else -1,
        "actions": to_json(status.actions) if status else [],
        "attempt": record.attempt,
        "progress": to_json(status.progress) if status else None,
        "createdAt": record.created_at,
        "executeAt": record.execute_at,
        "startedAt": status.started_at if status else None,
        "finishedAt": record.finished_at,
        "lastActivityAt": _last_activity(status, output, stderr),
        "pausedAt": status.paused_at if status else None,
        "pausedSeconds": status.paused_seconds if status else None,
        "usage": to_json(status.usage) if status else None,
        "accounting": to_json(status.accounting) if status else None,
        "limits": to_json(status.limits) if status else [],
        "oomKilled": status.oom_killed if status else None,
        "userId": status.user_id if status else None,
        "output": to_json(output),
        "stderr": to_json(stderr),
        "unforwardedLines": unforwarded() if spec.get("logging") else None,
        "gpus": list(task.gpus) or (status.gpus if status else []),
        "inputBytes": status.input_bytes if status else None,
        "receipt": to_json(record.receipt or (status.receipt if status else None)),
        "error": record.error,
        "damage": record.damage,
        "stopRequested": to_json(task.intent),
        "attempts": [_past_json(earlier) for earlier in record.previous],
        "retryAt": record.retry_at if task.waiting else None,
        "origin": record.origin,
        "name": task.name,
        "alias": task.alias,
        "template": record.template,
        "batch": task.batch,
        "entity": task.entity,
        "priority": spec.get("priority", 0),
        "tags": task.tags,
        "metadata": spec.get("metadata"),
        "spec": spec,
    }


def _last_activity(status: Status | None, output: Output | None, stderr: Output | None) -> str | None:
    """The newest sign of output or progress; before the first, the start."""
    if status is None:
        return None
    signs = [each.written_at for each in (output, stderr) if each is not None]
    signs.append(status.progress.at if status.progress else None)
    return max(filter(None, signs), default=status.started_at)


def _past_json(past: Past) -> dict[str, Any]:
    state = State.LOST if past.outcome in (None, Outcome.LOST) else State.EXITED
    return {"state": state.value, **to_json(past)}
