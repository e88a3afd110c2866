"""Batches: tasks handed in together, looked at and controlled together."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import cast

from task_runner.client import calls
from task_runner.client.base import Base
from task_runner.client.calls import Call
from task_runner.client.records import Batch, BatchResult
from task_runner.client.tasks import BREATH

_BATCH_FIELDS = frozenset(Batch.__annotations__) - {"tasks"}
_RESULT_FIELDS = frozenset(BatchResult.__annotations__)


class Batches(Base):
    """What a client may ask about batches."""

    def submit_batch(self, body: Mapping[str, object], idempotency_key: str | None = None) -> Batch:
        """Hand in tasks together: all of them are accepted, or none. The ids stand in "tasks", in their order.

        With a key it is safe to call this again: the same key gives the same batch.
        """
        return self._batch(calls.submit_batch(body, idempotency_key))

    def batch(self, batch_id: str, wait: float | None = None) -> Batch:
        """The batch now, or as soon as all of it is over if that is within ``wait`` seconds."""
        return self._batch(calls.batch(batch_id, wait))

    def batches(self, limit: int | None = None) -> Sequence[Batch]:
        """The newest batches, newest first."""
        return cast("Sequence[Batch]", self._list(calls.batches(limit), _BATCH_FIELDS))

    def batch_results(self, batch_id: str) -> Sequence[BatchResult]:
        """What became of each task of a batch that has not been removed, in the order of acceptance."""
        return cast("Sequence[BatchResult]", self._list(calls.batch_results(batch_id), _RESULT_FIELDS))

    def wait_batch(self, batch_id: str, timeout: float | None = None) -> Batch:
        """The batch when all of it is over, or after ``timeout`` seconds as it is then."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = calls.LONGEST_WAIT if end is None else max(0.0, end - time.monotonic())
            asked = time.monotonic()
            batch = self.batch(batch_id, min(left, calls.LONGEST_WAIT))
            if batch["finishedAt"] is not None or (end is not None and time.monotonic() >= end):
                return batch
            if time.monotonic() - asked < BREATH:
                time.sleep(BREATH)  # a daemon about to go does not wait with us

    def stop_batch(
        self, batch_id: str, signal: str | None = None, grace: float | None = None, wait: float | None = None
    ) -> Batch:
        """Stop all tasks of a batch; returns it as it is after a moment, or after at most ``wait`` seconds."""
        return self._batch(calls.stop_batch(batch_id, signal, grace, wait))

    def pause_batch(self, batch_id: str) -> Batch:
        """Freeze those of its tasks that run, and start none."""
        return self._batch(calls.hold_batch(batch_id, True))

    def resume_batch(self, batch_id: str) -> Batch:
        """Let them go on."""
        return self._batch(calls.hold_batch(batch_id, False))

    def _batch(self, call: Call) -> Batch:
        return cast("Batch", self._object(call, _BATCH_FIELDS))
