"""A task as `/v1` shows it."""

from __future__ import annotations

import json
from typing import Any

from task_runner.model.codec import to_json
from task_runner.model.state import State
from task_runner.model.status import Status
from task_runner.service.task import Task


def task_json(task: Task, pending_reason: str | None = None) -> dict[str, Any]:
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
        "lastActivityAt": status.heartbeat.at if status else None,
        "pausedAt": status.paused_at if status else None,
        "pausedSeconds": status.paused_seconds if status else None,
        "usage": to_json(status.usage) if status else None,
        "output": to_json(status.output) if status else None,
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
