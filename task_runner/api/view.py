"""A task as `/v1` shows it."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

from task_runner.lib.clock import stamp
from task_runner.model.codec import to_json
from task_runner.model.state import State
from task_runner.model.status import Output, Status
from task_runner.service.task import Task


def seen_output(task: Task, path: str) -> Output | None:
    """What has been written so far. The last status of a task that is over says it; else the file is asked."""
    status = task.record.status
    if status is None or task.record.state is State.EXITED:
        return status.output if status else None
    try:
        seen = os.stat(path, follow_symlinks=False)
    except OSError:
        return status.output
    return replace(status.output, bytes=seen.st_size, written_at=stamp(seen.st_mtime) if seen.st_size else None)


def task_json(task: Task, pending_reason: str | None, output: Output | None) -> dict[str, Any]:
    """What is not known is null."""
    record, status = task.record, task.record.status
    spec = json.loads(task.spec_json)
    return {
        "taskId": task.id,
        "state": record.state.value,
        "outcome": record.outcome and record.outcome.value,
        "exitCode": status.exit_code if status else None,
        "signal": status.signal if status else None,
        "stalled": to_json(task.stall),
        "pendingReason": pending_reason,
        "currentActionIdx": status.current_action_idx if status else -1,
        "actions": to_json(status.actions) if status else [],
        "attempt": record.attempt,
        "progress": None,
        "createdAt": record.created_at,
        "executeAt": None,
        "startedAt": status.started_at if status else None,
        "finishedAt": record.finished_at,
        "lastActivityAt": (output and output.written_at) or (status.started_at if status else None),
        "pausedAt": status.paused_at if status else None,
        "pausedSeconds": status.paused_seconds if status else None,
        "usage": to_json(status.usage) if status else None,
        "output": to_json(output),
        "receipt": to_json(record.receipt or (status.receipt if status else None)),
        "error": record.error,
        "damage": record.damage,
        "stopRequested": to_json(task.intent),
        "attempts": [_attempt_json(earlier) for earlier in record.previous],
        "origin": record.origin,
        "name": task.name,
        "batch": None,
        "entity": None,
        "tags": task.tags,
        "metadata": spec.get("metadata"),
        "spec": spec,
    }


def _attempt_json(status: Status) -> dict[str, Any]:
    return {
        "attempt": status.attempt,
        "state": (status.state if status.outcome else State.LOST).value,
        "outcome": status.outcome and status.outcome.value,
        "exitCode": status.exit_code,
        "signal": status.signal,
        "startedAt": status.started_at,
        "finishedAt": status.finished_at,
    }
