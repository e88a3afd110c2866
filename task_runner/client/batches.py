"""Batches: tasks handed in together, looked at and controlled together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from task_runner.client import calls
from task_runner.client.calls import Call
from task_runner.client.core import Core, batch_of, new_key, required, until
from task_runner.client.records import Batch, BatchResult
from task_runner.client.steps import Plan, plan

BatchRef = str | Mapping[str, object]

_BATCH_FIELDS = required(Batch)
_RESULT_FIELDS = required(BatchResult)


class Batches(Core):
    """What a client may ask about batches."""

    @plan
    def submit_batch(self, body: Mapping[str, Any], idempotency_key: str | None = None) -> Plan[Batch]:
        """Hand in tasks together: all of them are accepted, or none. The ids stand in "tasks", in their order.

        A request whose answer is lost is sent again with the same key and makes one batch.
        """
        key = new_key() if idempotency_key is None else idempotency_key
        return (yield from self._batch(calls.submit_batch(body, key)))

    @plan
    def batch(self, batch: BatchRef, wait: float | None = None) -> Plan[Batch]:
        """The batch now, or as soon as all of it is over if that is within ``wait`` seconds."""
        return (yield from self._batch(calls.batch(batch_of(batch), wait)))

    @plan
    def batches(self, limit: int | None = None) -> Plan[Sequence[Batch]]:
        """The newest batches, newest first."""
        return cast("Sequence[Batch]", (yield from self._list(calls.batches(limit), _BATCH_FIELDS)))

    @plan
    def batch_results(self, batch: BatchRef) -> Plan[Sequence[BatchResult]]:
        """What became of each task of a batch that has not been removed, in the order of acceptance."""
        found = yield from self._list(calls.batch_results(batch_of(batch)), _RESULT_FIELDS)
        return cast("Sequence[BatchResult]", found)

    @plan
    def wait_batch(self, batch: BatchRef, timeout: float | None = None) -> Plan[Batch]:
        """The batch when all of it is over, or after ``timeout`` seconds as it is then."""
        batch_id = batch_of(batch)
        return (yield from until(lambda wait: self._batch(calls.batch(batch_id, wait)), _is_over, timeout))

    @plan
    def stop_batch(
        self, batch: BatchRef, signal: str | None = None, grace: float | None = None, wait: float | None = None
    ) -> Plan[Batch]:
        """Stop all tasks of a batch; returns it as it is after a moment, or after at most ``wait`` seconds."""
        return (yield from self._batch(calls.stop_batch(batch_of(batch), signal, grace, wait)))

    @plan
    def pause_batch(self, batch: BatchRef) -> Plan[Batch]:
        """Freeze those of its tasks that run, and start none."""
        return (yield from self._batch(calls.hold_batch(batch_of(batch), True)))

    @plan
    def resume_batch(self, batch: BatchRef) -> Plan[Batch]:
        """Let them go on."""
        return (yield from self._batch(calls.hold_batch(batch_of(batch), False)))

    def _batch(self, call: Call) -> Plan[Batch]:
        return cast("Batch", (yield from self._object(call, _BATCH_FIELDS)))


def _is_over(batch: Batch) -> bool:
    return batch["finishedAt"] is not None
