"""Whether a task that has ended is tried again, and when. Pure; chance is passed in."""

from __future__ import annotations

from task_runner.model.state import Outcome, State
from task_runner.model.terms import Retry
from task_runner.service.task import Past, Record


def delay(retry: Retry | None, tries: int, outcome: Outcome, chance: float) -> float | None:
    """Seconds until the next try after ``tries`` have ended, the last with ``outcome``; None: there is none.

    ``chance`` is from 0 to 1: how much of the jitter is used, and in which direction.
    """
    if retry is None or tries > retry.count or outcome.value not in {each.value for each in retry.on}:
        return None
    # the exponent is bounded, for a float has an end and a long row of tries has none
    wait = min(retry.max_delay_seconds, retry.delay_seconds * retry.factor ** min(tries - 1, 64))
    return max(0.0, wait * (1 + retry.jitter * (2 * chance - 1)))


def next_attempt(record: Record, *, state: State, retry_at: str | None, series: bool) -> Record:
    """The record of the attempt after the one that ``record`` tells the end of.

    ``series``: it is one more of those that the spec asks for; otherwise they are counted anew from it.
    """
    return Record(
        state=state,
        attempt=record.attempt + 1,
        origin=record.origin,
        created_at=record.created_at,
        retry_at=retry_at,
        rank=record.rank,
        previous=[*record.previous, _past(record)],
        first_attempt=record.first_attempt if series else record.attempt + 1,
        template=record.template,
        damage=record.damage,
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
