"""The meters: everything that `/metrics` tells, by name, and the registry that holds it.

Rule 1: a name ends in its unit (seconds, bytes), or in `_total` if it is a counter, as Prometheus has it.
Rule 2: a label has few values, and none that a client can choose: routes are templates, not paths.
Rule 3: counters begin at nought with each daemon, which `process_start_time_seconds` tells; Prometheus knows how to
        add up what such counters say. What is a state, and not a count, is read when it is asked for.

WARNING: doc/reference/metrics.md is generated from this table: `python -m task_runner.api.meters >
doc/reference/metrics.md`. Tests compare them, and with what a daemon says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

_PREFIX = "task_runner_"
#: seconds
QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
LONG = (0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Meter:
    """One metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    about: str
    labels: tuple[str, ...] = ()
    #: of a histogram
    buckets: Sequence[float] = ()


def _counter(name: str, about: str, *labels: str) -> Meter:
    return Meter(name=f"{_PREFIX}{name}", kind="counter", about=about, labels=labels)


def _gauge(name: str, about: str, *labels: str) -> Meter:
    return Meter(name=f"{_PREFIX}{name}", kind="gauge", about=about, labels=labels)


def _histogram(name: str, about: str, buckets: Sequence[float], *labels: str) -> Meter:
    return Meter(name=f"{_PREFIX}{name}", kind="histogram", about=about, labels=labels, buckets=buckets)


UP = _gauge("up", "1 while the daemon answers.")
BUILD = _gauge("build_info", "1; the labels say what runs.", "version", "python")

ACCEPTED = _counter("tasks_accepted_total", "Tasks accepted, by the surface they came in by.", "origin")
ENDED = _counter(
    "tasks_ended_total",
    "Tasks that ended. One that somebody has tried again ends again; the tries that its spec asks for are one ending.",
    *("outcome", "origin"),
)
STARTED = _counter(
    "attempts_started_total", "Attempts whose runner was seen to have begun, by the surface of their task.", "origin"
)
RETRIES = _counter(
    "attempts_repeated_total",
    "Attempts after a task's first that were decided on: `spec`: its spec asks for tries; `request`: somebody did.",
    "by",
)
REFUSED = _counter(
    "launches_refused_total", "Launches that could not be done, and are tried again: no process, no secret."
)
LATENCY = _histogram(
    "start_latency_seconds",
    "From when an attempt was due to its first command: what it waited for others and for room included. "
    "By the wall clock.",
    LONG,
)
RUN_TIME = _histogram(
    "run_seconds",
    "From the start of an attempt's runner to its end, pauses included, by how the attempt ended. By the wall clock; "
    "attempts that ended `lost` are not among them.",
    LONG,
    "outcome",
)
OUTPUT = _counter("output_bytes_total", "Bytes that attempts have written to their logs, counted when they end.")
GAPS = _counter("output_gaps_total", "Gaps in logs that a limit has made, counted when the attempt ends.")
GAP_BYTES = _counter("output_gap_bytes_total", "Bytes in these gaps: written, and not kept.")

TASKS = _gauge("tasks", "Tasks that are not over, by state.", "state")
STALLED = _gauge("tasks_stalled", "Tasks called stalled.")
QUEUED = _gauge(
    "queue_tasks",
    "Tasks that wait, by what for: `time` (scheduled), `entity`, `after` (other tasks), `later` (its next try), "
    "`batch` (paused), `unfit` (needs more than there is), `room`; `new` and `leaving` are about to be moved.",
    "reason",
)
OLDEST = _gauge(
    "queue_oldest_seconds",
    "How long the one of them is due that has been for longest; 0 where none is. Due: accepted, or its time has come.",
    "reason",
)
DRAINING = _gauge("draining", "1 while nothing new is started.")
READY = _gauge("ready", "1 once all tasks of an earlier daemon have been examined.")
ADOPTED = _gauge(
    "attempts_adopted", "Attempts that this daemon found under way when it started, with their runners alive."
)
RECOVERED = _gauge(
    "endings_recovered", "Attempts that ended while no daemon was there: what this one learnt of when it started."
)

STORAGE = _gauge("storage_ok", "0 while the store takes no changes.")
COMMIT = _histogram("store_commit_seconds", "Transactions of the store, until they are on the disk.", QUICK)
LAG = _histogram(
    "event_loop_lag_seconds", "How much too late a timer of the daemon went off that goes off every second.", QUICK
)
STREAMS = _gauge("streams", "Output and event streams that are open.")

REQUESTS = _counter(
    "http_requests_total",
    "Requests answered. `route` is a template; `refused`: by the gate; `unmatched`: there is no such route, or not "
    "with this method. `status` is `none` where the client left before the answer began.",
    *("surface", "route", "method", "status"),
)
ANSWER_TIME = _histogram(
    "http_request_seconds",
    "From a request to the beginning of its answer. Where a client asks to `wait`, that wait is in it.",
    QUICK,
    *("surface", "route"),
)

NOTES_WAITING = _gauge("notifications_waiting", "Notifications still to be delivered.")
NOTES_SENT = _counter("notifications_delivered_total", "Notifications delivered.")
NOTES_FAILED = _counter("notifications_failed_total", "Tries to deliver one that failed.")
NOTES_GIVEN_UP = _counter("notifications_given_up_total", "Notifications given up.")

SPANS_WAITING = _gauge("span_groups_waiting", "Endings of attempts whose spans are still to be exported.")
SPANS_EXPORTED = _counter("spans_exported_total", "Spans that the collector took.")
SPANS_FAILED = _counter("span_exports_failed_total", "Requests to the collector that failed.")
SPANS_DROPPED = _counter(
    "span_groups_dropped_total", "Endings whose spans were dropped unsent: the collector was away for too long."
)

METERS = [each for each in list(globals().values()) if isinstance(each, Meter)]
#: what ProcessCollector of prometheus-client tells, in its own words
PROCESS = (
    *("process_virtual_memory_bytes", "process_resident_memory_bytes", "process_start_time_seconds"),
    *("process_cpu_seconds_total", "process_open_fds", "process_max_fds"),
)


class Meters:
    """The registry of one daemon, and what is counted as it happens."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each counter; process_start_time_seconds tells the same
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.accepted = self._count(ACCEPTED)
        self.ended = self._count(ENDED)
        self.started = self._count(STARTED)
        self.repeated = self._count(RETRIES)
        self.latency = self._histogram(LATENCY)
        self.run_time = self._histogram(RUN_TIME)
        self.output = self._count(OUTPUT)
        self.gaps = self._count(GAPS)
        self.gap_bytes = self._count(GAP_BYTES)
        self.commit = self._histogram(COMMIT)
        self.lag = self._histogram(LAG)
        self.requests = self._count(REQUESTS)
        self.answer_time = self._histogram(ANSWER_TIME)

    def _count(self, meter: Meter) -> Counter:
        return Counter(meter.name, meter.about, meter.labels, registry=self.registry)

    def _histogram(self, meter: Meter) -> Histogram:
        return Histogram(meter.name, meter.about, meter.labels, registry=self.registry, buckets=meter.buckets)


def family(meter: Meter, value: float | None = None) -> GaugeMetricFamily | CounterMetricFamily:
    """What a collector yields; without a value for the samples with labels to be added."""
    kind = CounterMetricFamily if meter.kind == "counter" else GaugeMetricFamily
    return kind(meter.name, meter.about, value, labels=meter.labels if value is None else None)


def table() -> str:
    """doc/reference/metrics.md."""
    rows = [
        f"| `{each.name}` | {each.kind} | {', '.join(f'`{label}`' for label in each.labels)} | {each.about} |"
        for each in METERS
    ]
    return "\n".join(
        [
            "# Metrics",
            "",
            "Generated from `task_runner/api/meters.py`",
            "by `python -m task_runner.api.meters > doc/reference/metrics.md`; do not edit.",
            "",
            "`GET /metrics` answers in Prometheus' text format; [howto/metrics.md](../howto/metrics.md) shows what to",
            "do with it.",
            "",
            "Counters and histograms begin at nought when the daemon starts, and Prometheus' `rate` and `increase`",
            "know that. Each change of a task is counted once, by the daemon that notes it, so over restarts nothing",
            "is counted twice; what a daemon has counted since the last scrape goes with it when it is killed. Gauges",
            "are read from the daemon's state when they are asked for. What has a label appears once there is",
            "something to tell of it.",
            "",
            "| metric | kind | labels | meaning |",
            "| --- | --- | --- | --- |",
            *rows,
            "",
            f"Of the process, as prometheus-client tells them: {', '.join(f'`{name}`' for name in PROCESS)}.",
        ]
    )


if __name__ == "__main__":
    print(table())
