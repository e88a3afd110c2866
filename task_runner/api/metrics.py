"""GET /metrics: the daemon in the text format of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Metric, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from task_runner.service.task import Task
from task_runner.service.tasks import TaskService


class Metrics(Collector):
    """Counts of one daemon. What can be read off the service is read when asked for, not kept twice."""

    def __init__(self, service: TaskService) -> None:
        self._service = service
        self.registry = CollectorRegistry()
        self.ended = Counter(
            "task_runner_tasks_ended", "Tasks that ended since the daemon's start.", ["outcome"], registry=self.registry
        )
        Gauge("task_runner_up", "1 while the daemon answers.", registry=self.registry).set(1)
        self.registry.register(self)
        service.book.on_final.append(self._count)

    def _count(self, task: Task) -> None:
        if task.record.outcome is not None:
            self.ended.labels(task.record.outcome.value).inc()

    def collect(self) -> Iterator[Metric]:
        node = self._service.node()
        states = GaugeMetricFamily("task_runner_tasks", "Tasks that are not over, by state.", labels=["state"])
        for state, count in node["states"].items():
            states.add_metric([state], count)
        yield states
        yield GaugeMetricFamily("task_runner_tasks_stalled", "Tasks called stalled.", node["stalled"])
        yield from self._notifications()
        yield GaugeMetricFamily(
            "task_runner_storage_ok", "0 while the store takes no changes.", int(node["storage"]["ok"])
        )

    def _notifications(self) -> Iterator[Metric]:
        notifier = self._service.notifier
        yield GaugeMetricFamily(
            "task_runner_notifications_waiting", "Notifications still to be delivered.", notifier.waiting()
        )
        for name, about, value in (
            ("delivered", "Notifications delivered since the daemon's start.", notifier.delivered),
            ("failed", "Tries to deliver one that failed, since the daemon's start.", notifier.failed),
            ("given_up", "Notifications given up since the daemon's start.", notifier.gave_up),
        ):
            yield CounterMetricFamily(f"task_runner_notifications_{name}", about, value)


async def get_metrics(request: Request) -> Response:
    """GET /metrics"""
    metrics: Metrics = request.app.state.metrics
    return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)
