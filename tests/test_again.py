"""When a task that has ended is tried again: the pure part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from task_runner.lib.backoff import delay
from task_runner.model.state import Outcome, State
from task_runner.model.terms import Retry, RetryOn
from task_runner.service.again import next_attempt
from task_runner.service.task import Record

FAILED, SUCCEEDED = Outcome.FAILED, Outcome.SUCCEEDED


def test_waits_grow_by_the_factor_up_to_the_longest() -> None:
    retry = Retry(count=9, delay_seconds=1, factor=3, max_delay_seconds=20, jitter=0)
    assert [delay(retry, tries, FAILED, 0.5) for tries in (1, 2, 3, 4, 5)] == [1, 3, 9, 20, 20]


def test_the_number_of_repetitions_is_kept() -> None:
    retry = Retry(count=2, jitter=0)
    assert [delay(retry, tries, FAILED, 0.5) is not None for tries in (1, 2, 3)] == [True, True, False]


def test_nothing_is_tried_again_unasked() -> None:
    assert delay(None, 1, FAILED, 0.5) is None
    assert delay(Retry(count=0), 1, FAILED, 0.5) is None


@pytest.mark.parametrize("outcome", list(Outcome))
def test_only_the_endings_that_are_named(outcome: Outcome) -> None:
    again = delay(Retry(on=[RetryOn.LOST]), 1, outcome, 0.5) is not None
    assert again == (outcome is Outcome.LOST)
    if outcome in (SUCCEEDED, Outcome.CANCELLED):
        assert delay(Retry(), 1, outcome, 0.5) is None


@given(
    st.floats(0, 86_400),
    st.floats(1, 100),
    st.floats(0, 86_400),
    st.floats(0, 1),
    st.integers(1, 1000),
    st.floats(0, 1),
)
def test_a_wait_stays_within_its_jitter(
    first: float, factor: float, most: float, jitter: float, tries: int, chance: float
) -> None:
    retry = Retry(count=1000, delay_seconds=first, factor=factor, max_delay_seconds=most, jitter=jitter)
    wait = delay(retry, tries, FAILED, chance)
    assert wait is not None
    plain = delay(Retry(count=1000, delay_seconds=first, factor=factor, max_delay_seconds=most, jitter=0), tries, FAILED, 0)
    assert plain is not None and 0 <= plain <= most
    assert plain * (1 - jitter) - 1e-6 <= wait <= plain * (1 + jitter) + 1e-6


def test_the_next_attempt_begins_anew_and_remembers_the_last() -> None:
    ended = Record(state=State.EXITED, outcome=FAILED, created_at="then", finished_at="now", error="why", rank=7.0)
    again = next_attempt(ended, state=State.PENDING, retry_at="soon", series=True)
    assert (again.attempt, again.outcome, again.finished_at, again.error) == (2, None, None, None)
    assert (again.first_attempt, again.rank, again.created_at, again.retry_at) == (1, 7.0, "then", "soon")
    assert [(past.attempt, past.outcome, past.error) for past in again.previous] == [(1, FAILED, "why")]
    asked_for = next_attempt(again, state=State.PENDING, retry_at=None, series=False)
    assert asked_for.first_attempt == asked_for.attempt == 3


@pytest.mark.parametrize("series", [True, False])
def test_another_attempt_keeps_whose_the_task_is_and_whom_it_may_run_as(series: bool) -> None:
    record = Record(
        state=State.EXITED, created_at="2026-01-31T12:00:00.000000Z", origin="drove", token="t", rank=3.0, template="one"
    )  # fmt: skip
    again = next_attempt(record, state=State.PENDING, renewed_at="2026-02-01T12:00:00.000000Z", series=series)
    assert (again.origin, again.token, again.rank, again.template) == ("drove", "t", 3.0, "one")
    assert (again.created_at, again.renewed_at, again.attempt) == (record.created_at, "2026-02-01T12:00:00.000000Z", 2)
