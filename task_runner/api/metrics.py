"""GET /metrics: the daemon in the text format of Prometheus.

What happens is counted as it happens, at the places where every task must pass (service/book.py). What is so is read
off the service when it is asked for, and not kept twice.
"""

from __future__ import annotations

import asyncio
import platform
from collections.abc import Iterator, Sequence

from prometheus_client import CONTENT_TYPE_LATEST, Histogram, Metric, generate_latest
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from task_runner import __version__
from task_runner.api import meters as m
from task_runner.api.meters import Meters, family
from task_runner.api.streams import Streams
from task_runner.model.state import Outcome
from task_runner.model.status import Output, Status
from task_runner.service.book import Change
from task_runner.service.node import node_json
from task_runner.service.task import Record, Task
from task_runner.service.tasks import TaskService
from task_runner.service.waiting import Place, due_at, seconds_of

#: seconds between two looks at how late the event loop is
BEAT = 1.0


class Metrics(Collector):
    """Counts what happens in a service from now on, and tells what is so."""

    def __init__(self, meters: Meters, service: TaskService, streams: Streams) -> None:
        self.meters = meters
        self._service = service
        self._streams = streams
        meters.registry.register(self)
        service.book.on_accepted.append(self._accepted)
        service.book.on_change.append(self._changed)
        service.store.on_commit = meters.commit.observe

    async def watch_lag(self) -> None:
        """Measure how late the event loop is, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + BEAT
            await asyncio.sleep(BEAT)
            self.meters.lag.observe(max(0.0, loop.time() - due))

    # -- what happens

    def _accepted(self, tasks: Sequence[Task]) -> None:
        self.meters.accepted.labels(tasks[0].record.origin).inc(len(tasks))

    def _changed(self, change: Change) -> None:
        before, record = change.task.record, change.record
        if record.attempt != before.attempt:
            self.meters.repeated.labels("request" if change.ended is None else "spec").inc()
        if (told := change.ended or record).attempt == before.attempt:
            if told.status is not None:
                self._began(before, told.status)
            if told.outcome is not None and before.outcome is None:
                self._attempt_ended(told.outcome, told.status)
        if record.outcome is not None and before.outcome is None:
            self.meters.ended.labels(record.outcome.value, record.origin).inc()

    def _began(self, before: Record, status: Status) -> None:
        if before.status is None:
            self.meters.started.labels(before.origin).inc()
        first = _first_command(status)
        if first is not None and (before.status is None or _first_command(before.status) is None):
            _observe(self.meters.latency, due_at(before), first)

    def _attempt_ended(self, outcome: Outcome, status: Status | None) -> None:
        if status is None:
            return
        for output in filter(None, (status.output, status.stderr)):
            self._written(output)
        if status.finished_at is not None and status.started_at is not None:
            _observe(self.meters.run_time.labels(outcome.value), status.started_at, status.finished_at)

    def _written(self, output: Output) -> None:
        self.meters.output.inc(output.bytes)
        if output.gaps:
            self.meters.gaps.inc(len(output.gaps))
            self.meters.gap_bytes.inc(sum(gap.bytes for gap in output.gaps))

    # -- what is so

    def collect(self) -> Iterator[Metric]:
        service, node = self._service, node_json(self._service)
        yield family(m.UP, 1)
        build = family(m.BUILD)
        build.add_metric([__version__, platform.python_version()], 1)
        yield build
        states = family(m.TASKS)
        for state, count in node["states"].items():
            states.add_metric([state], count)
        yield states
        yield family(m.STALLED, node["stalled"])
        yield from self._queue()
        yield family(m.REFUSED, service.queue.refused_launches)
        yield family(m.DRAINING, int(node["draining"]))
        yield family(m.READY, int(node["ready"]))
        yield family(m.ADOPTED, service.examined.adopted)
        yield family(m.RECOVERED, service.examined.ended)
        yield family(m.STORAGE, int(node["storage"]["ok"]))
        yield family(m.STREAMS, self._streams.open)
        yield from self._notifications()
        yield from self._spans()

    def _queue(self) -> Iterator[Metric]:
        crowds, now = self._service.queue.survey(), self._service.clock.time()
        lengths, ages = family(m.QUEUED), family(m.OLDEST)
        for place in Place:
            crowd = crowds.get(place)
            lengths.add_metric([place.value], crowd.count if crowd else 0)
            ages.add_metric([place.value], max(0.0, now - seconds_of(crowd.since)) if crowd else 0)
        yield lengths
        yield ages

    def _notifications(self) -> Iterator[Metric]:
        notifier = self._service.notifier
        yield family(m.NOTES_WAITING, notifier.waiting())
        yield family(m.NOTES_SENT, notifier.delivered)
        yield family(m.NOTES_FAILED, notifier.failed)
        yield family(m.NOTES_GIVEN_UP, notifier.gave_up)

    def _spans(self) -> Iterator[Metric]:
        tracer = self._service.tracer
        yield family(m.SPANS_WAITING, tracer.waiting() if tracer else 0)
        yield family(m.SPANS_EXPORTED, tracer.exported if tracer else 0)
        yield family(m.SPANS_FAILED, tracer.failed if tracer else 0)
        yield family(m.SPANS_DROPPED, tracer.dropped if tracer else 0)


def _observe(histogram: Histogram, begin: str, end: str) -> None:
    """The seconds between two stamps. One of a runner's file may have been damaged: then they are not known."""
    try:
        took = seconds_of(end) - seconds_of(begin)
    except ValueError:
        return
    histogram.observe(max(0.0, took))


def _first_command(status: Status) -> str | None:
    """When the first action was started that has been."""
    return next((action.started_at for action in status.actions if action.started_at is not None), None)


async def get_metrics(request: Request) -> Response:
    """GET /metrics"""
    metrics: Metrics = request.app.state.metrics
    return Response(generate_latest(metrics.meters.registry), media_type=CONTENT_TYPE_LATEST)
