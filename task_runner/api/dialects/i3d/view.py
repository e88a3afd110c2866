"""Tasks and batches as i3D.net shows them. Pure. Where nothing is known the wire wants a number: 0, or -1."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from task_runner.api.dialects.i3d.form import Form
from task_runner.api.dialects.i3d.results import failed_action, result_code, result_text
from task_runner.model.state import Outcome
from task_runner.model.status import ActionStatus
from task_runner.service.batch import Batch
from task_runner.service.batches import Standing
from task_runner.service.explanation import LastOutput
from task_runner.service.task import Record, Task

#: where a batch's own data stands in its metadata
KEY = "i3d"


def task_json(
    task: Task, form: Form, *, batch: int | None, waits_for: str | None, output: Sequence[LastOutput]
) -> dict[str, Any]:
    """``batch``: the number of its batch. ``output``: the end of what it wrote, needed where `wants_output`."""
    record = task.record
    failed = failing(task)
    said = last_line(failed, output) if failed else None
    name = {"name": task.name or record.template or ""} if form.named else {}
    return {
        "id": task.seq,
        **name,
        "batchId": batch or 0,
        "categoryId": form.category,
        "entityId": int(task.entity) if task.entity and task.entity.isdecimal() else 0,
        "currentActionIdx": record.status.current_action_idx if record.status else -1,
        "executeAt": _executed(record),
        "lastActivityAt": unix(_last_sign(record)),
        "finishedAt": unix(record.finished_at),
        "resultCode": result_code(record.state, record.outcome, form),
        "resultText": result_text(record, waits_for=waits_for, failed=failed, said=said),
    }


def failing(task: Task) -> ActionStatus | None:
    """The action that made it fail."""
    return failed_action(task.record.status, task.spec) if task.record.outcome is Outcome.FAILED else None


def wants_output(task: Task) -> bool:
    """Whether the reason of its failure stands in what it wrote, if anywhere."""
    failed = failing(task)
    return failed is not None and failed.error is None and task.record.error is None


def last_line(failed: ActionStatus, output: Sequence[LastOutput]) -> str | None:
    """The last line that the failed action wrote; none where something else wrote after it."""
    ends = {"output": failed.output_end, "stdout": failed.output_end, "stderr": failed.stderr_end}
    starts = {"output": failed.output_start, "stdout": failed.output_start, "stderr": failed.stderr_start}
    for each in reversed(output):  # stderr comes last
        begin, end = starts[each.stream], ends[each.stream]
        if each.text is None or begin is None or end is None or begin == end or each.bytes != end:
            continue
        own = each.text.encode()[begin - end :].decode(errors="replace")
        lines = [line.strip() for line in own.splitlines() if line.strip()]
        if lines:
            return lines[-1]
    return None


def _executed(record: Record) -> int:
    """When it was started; before, when it is to be."""
    started = record.status.started_at if record.status else None
    return unix(started or record.execute_at)


def _last_sign(record: Record) -> str | None:
    status = record.status
    if status is None:
        return record.finished_at
    signs = [status.heartbeat.at, status.started_at, record.finished_at, status.output.written_at]
    signs.append(status.progress.at if status.progress else None)
    return max(filter(None, signs), default=None)


def batch_json(batch: Batch, shown: dict[str, Any], tasks: Sequence[Standing], form: Form) -> dict[str, Any]:
    """``shown``: as `/v1` has it; ``tasks``: how each of its tasks stands, those that have been removed left out."""
    codes = {str(each.seq): result_code(each.state, each.outcome, form) for each in tasks}
    asked = (batch.metadata or {}).get(KEY, {}).get("executeAt") or 0
    return {
        "id": batch.seq,
        "createdAt": unix(batch.created_at),
        "executeAt": max(asked, unix(batch.created_at)),
        "finishedAt": unix(shown["finishedAt"]),
        **{name: shown[name] for name in ("numTasks", "numTasksOk", "numTasksFailed", "numTasksCancelled")},
        "taskIds": [each.seq for each in tasks] if form.keys_only else codes,
    }


def unix(stamp: str | None) -> int:
    """Whole seconds since 1970; 0: not yet, or not known."""
    return 0 if stamp is None else int(datetime.fromisoformat(stamp).timestamp())
