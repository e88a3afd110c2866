"""Spans: what a trace tells of a task. Pure: from what is known of an ending to records.

    task                      from its acceptance to its end; another one for each time that somebody has it tried again
    └─ attempt                from the start of its runner to its end
       └─ action              from its first start to its end, for each action that was started

Rule 1: ids are computed from the task, so that whoever makes a span, before a restart or after, makes the same one: a
        command can be told its parent before that span exists, and a span that is sent twice is one span.
Rule 2: times are those of the status, which the runner wrote when it happened. Where one is not known, the span says
        so.
Rule 3: spans leave the house. They name what a task is called, and tell how it ended; they have neither its command
        line nor its environment nor its output.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from task_runner.model.state import Outcome
from task_runner.model.status import ActionStatus, Receipt, Status
from task_runner.model.trace import TraceContext
from task_runner.service.task import Record, Task

Value = str | int | float | bool
_EPOCH = datetime.fromtimestamp(0, UTC)
#: characters of an error that are told
LONGEST = 500


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """Something that happened at one moment of a span."""

    name: str
    at: str
    attributes: dict[str, Value] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Span:
    """One span; its times are stamps."""

    name: str
    trace_id: str
    span_id: str
    #: none: it is the first of its trace
    parent_id: str | None
    #: the parent is a span of the request that the task came in by
    remote: bool = False
    #: `tracestate`
    state: str | None = None
    start: str
    end: str
    #: why it is an error; none: it is not
    fault: str | None = None
    attributes: dict[str, Value] = field(default_factory=dict)
    marks: list[Mark] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Names:
    """The ids of a task's spans."""

    task_id: str
    created_at: str
    context: TraceContext | None

    @property
    def trace(self) -> str:
        return self.context.trace_id if self.context is not None else self._made("trace", length=32)

    @property
    def state(self) -> str | None:
        return self.context.state if self.context is not None else None

    def series(self, first_attempt: int) -> str:
        """The span of the task, tried by itself or somebody's request from this attempt on."""
        return self._made("task", first_attempt)

    def attempt(self, attempt: int) -> str:
        return self._made("attempt", attempt)

    def action(self, attempt: int, index: int) -> str:
        return self._made("action", attempt, index)

    def _made(self, *words: object, length: int = 16) -> str:
        text = "/".join(map(str, (self.task_id, self.created_at, *words)))
        return hashlib.sha256(text.encode()).hexdigest()[:length]


def names(task: Task) -> Names:
    return Names(task.id, task.record.created_at, task.record.trace)


def of_ending(task: Task, ended: Record, *, over: bool) -> list[Span]:
    """The spans of an attempt that has ended so; ``over``: the task has, too."""
    known = names(task)
    spans = []
    if ended.status is not None and ended.status.attempt == ended.attempt:
        spans += _of_attempt(known, ended, ended.status)
    if over:
        spans.append(_of_task(task, known, ended))
    return spans


def _of_task(task: Task, known: Names, record: Record) -> Span:
    first, context = record.first_attempt, known.context
    start = record.created_at
    if first > 1:  # somebody asked for more attempts after its end
        began = [past.started_at for past in record.previous if past.attempt == first]
        began_at = next(filter(None, map(_time, began)), None)
        start = began_at or record.renewed_at or _time(record.finished_at) or start
    attributes: dict[str, Value | None] = {
        "task_runner.task.id": task.id,
        "task_runner.task.name": task.name,
        "task_runner.origin": record.origin,
        "task_runner.entity": task.entity,
        "task_runner.batch": task.batch,
        "task_runner.template": record.template,
        "task_runner.attempts": record.attempt,
        "task_runner.outcome": _word(record.outcome),
    }
    parent = None if context is None else context.span_id
    return Span(
        name=f"task {task.name}" if task.name else "task",
        trace_id=known.trace,
        span_id=known.series(first),
        parent_id=parent if first == 1 else known.series(1),
        remote=context is not None and first == 1,
        state=known.state,
        start=start,
        end=max(start, _time(record.finished_at) or start),
        fault=_fault(record.outcome, record.error, record.status),
        attributes=_known(attributes),
    )


def _of_attempt(known: Names, record: Record, status: Status) -> list[Span]:
    start = _time(status.started_at) or record.created_at
    end = max(start, _time(status.finished_at) or _time(record.finished_at) or start)
    usage = status.usage
    attributes: dict[str, Value | None] = {
        "task_runner.task.id": known.task_id,
        "task_runner.attempt": record.attempt,
        "task_runner.outcome": _word(record.outcome),
        "task_runner.exit_code": status.exit_code,
        "task_runner.signal": status.signal,
        "task_runner.output.bytes": status.output.bytes + (status.stderr.bytes if status.stderr else 0),
        "task_runner.cpu.seconds": usage.cpu_seconds if usage else None,
        "task_runner.max_rss.bytes": usage.max_rss_bytes if usage else None,
        "task_runner.paused.seconds": status.paused_seconds or None,
        "task_runner.end_known": None if status.finished_at else False,
    }
    whole = Span(
        name="attempt",
        trace_id=known.trace,
        span_id=known.attempt(record.attempt),
        parent_id=known.series(record.first_attempt),
        state=known.state,
        start=start,
        end=end,
        fault=_fault(record.outcome, record.error, status),
        attributes=_known(attributes),
        marks=[_stop(receipt, end) for receipt in (status.receipt, record.receipt) if receipt is not None],
    )
    started = [each for each in status.actions if each.started_at is not None]
    return [whole, *(_of_action(known, whole, record.attempt, each) for each in started)]


def _of_action(known: Names, whole: Span, attempt: int, action: ActionStatus) -> Span:
    start = _time(action.started_at) or whole.start
    attributes: dict[str, Value | None] = {
        "task_runner.task.id": known.task_id,
        "task_runner.attempt": attempt,
        "task_runner.action": action.index,
        "task_runner.machine": action.machine,
        "task_runner.cleanup": action.cleanup or None,
        "task_runner.tries": action.tries,
        "task_runner.outcome": _word(action.outcome),
        "task_runner.exit_code": action.exit_code,
        "task_runner.signal": action.signal,
        "task_runner.oom_killed": action.oom_killed or None,
        "task_runner.end_known": None if action.finished_at else False,
    }
    # one without an end was under way when its runner died
    outcome = action.outcome or (None if action.finished_at else Outcome.LOST)
    return Span(
        name=action.name or action.machine,
        trace_id=known.trace,
        span_id=known.action(attempt, action.index),
        parent_id=whole.span_id,
        state=whole.state,
        start=start,
        end=max(start, _time(action.finished_at) or whole.end),
        fault=_fault(outcome, action.error, action),
        attributes=_known(attributes),
    )


def _stop(receipt: Receipt, end: str) -> Mark:
    attributes: dict[str, Value | None] = {
        "task_runner.stop.reason": receipt.reason,
        "task_runner.stop.signal": receipt.signal,
        "task_runner.stop.signalled": receipt.signalled_count,
        "task_runner.stop.killed": receipt.killed_count,
    }
    at = _time(receipt.requested_at) or _time(receipt.finished_at) or end
    return Mark(name="stop", at=at, attributes=_known(attributes))


def _fault(outcome: Outcome | None, error: str | None, how: Status | ActionStatus | None) -> str | None:
    """A cancelled task is no error: somebody wanted that."""
    if outcome not in (Outcome.FAILED, Outcome.TIMED_OUT, Outcome.LOST):
        return None
    if error is not None:
        return f"{outcome.value}: {error}"[:LONGEST]
    if how is not None and how.signal is not None:
        return f"{outcome.value}: {how.signal}"
    if how is not None and how.exit_code is not None:
        return f"{outcome.value}: exit code {how.exit_code}"
    return str(outcome.value)


def _word(outcome: Outcome | None) -> str | None:
    return None if outcome is None else str(outcome.value)


def _known(attributes: Mapping[str, Value | None]) -> dict[str, Value]:
    return {name: value for name, value in attributes.items() if value is not None}


def _time(stamp: str | None) -> str | None:
    """A stamp of a runner's file, which may have been damaged: then it is not known."""
    try:
        return None if stamp is None or datetime.fromisoformat(stamp).tzinfo is None else stamp
    except ValueError:
        return None


def nanoseconds(stamp: str) -> int:
    """Since 1970, of a stamp."""
    return (datetime.fromisoformat(stamp) - _EPOCH) // timedelta(microseconds=1) * 1000
