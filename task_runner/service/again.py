"""The attempt after one that has ended. Whether there is one, and when, is the matter of lib/backoff.py."""

from __future__ import annotations

from task_runner.model.state import State
from task_runner.service.task import Past, Record


def next_attempt(
    record: Record, *, state: State, retry_at: str | None = None, renewed_at: str | None = None, series: bool
) -> Record:
    """The record of the attempt after the one that ``record`` tells the end of.

    ``retry_at``: it waits until then. ``renewed_at``: somebody asked for it then. ``series``: it is one more of those
    that the spec asks for; otherwise they are counted anew from it.
    """
    return Record(
        state=state,
        attempt=record.attempt + 1,
        origin=record.origin,
        created_at=record.created_at,
        retry_at=retry_at,
        renewed_at=renewed_at,
        rank=record.rank,
        previous=[*record.previous, _past(record)],
        first_attempt=record.first_attempt if series else record.attempt + 1,
        template=record.template,
        damage=record.damage,
        token=record.token,
        trace=record.trace,
    )


def _past(record: Record) -> Past:
    status = record.status
    return Past(
        attempt=record.attempt,
        outcome=record.outcome,
        exit_code=status.exit_code if status else None,
        signal=status.signal if status else None,
        error=record.error,
        started_at=status.started_at if status else None,
        finished_at=record.finished_at,
    )
