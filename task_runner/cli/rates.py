"""How much tasks use: from two looks at counters. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from task_runner.client.records import History, Node, TasksUse, TaskUse

T = TypeVar("T")

SORTS = ("cpu", "memory", "output", "id")


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskRate:
    """A task between two looks. What is not known is None."""

    task_id: str
    processes: int | None
    #: of one processor
    cpu_percent: float | None
    rss_bytes: int | None
    output_rate: float | None
    output_bytes: int | None


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeUse:
    """The machine and the daemon. What is not known is None."""

    #: of all processors together, over the seconds between two samples of the daemon (10)
    cpu_percent: float | None
    used_bytes: int | None
    memory_bytes: int | None
    running: int
    most_running: int | None
    waiting: int
    draining: bool


def node_use(node: Node, history: History) -> NodeUse:
    """``history``: its last sample counts."""
    cpu = _latest(history["cpu"])
    states = node["states"]
    waiting = states.get("pending", 0) + states.get("scheduled", 0)
    return NodeUse(
        cpu_percent=None if cpu is None else 100 * cpu,
        used_bytes=_latest(history["memory"]),
        memory_bytes=_latest(history["memoryTotal"]),
        running=sum(states.values()) - waiting,
        most_running=node["maxRunning"],
        waiting=waiting,
        draining=node["draining"],
    )


def _latest(column: Sequence[T]) -> T | None:
    return column[-1] if column else None


def task_rates(before: TasksUse | None, now: TasksUse, sort: str) -> list[TaskRate]:
    """Every task of the second look, those that use most first."""
    seconds = max(0.0, now["monotonicSeconds"] - before["monotonicSeconds"]) if before else 0.0
    known = {each["taskId"]: each for each in before["tasks"]} if before else {}
    return ordered([_task_rate(known.get(each["taskId"]), each, seconds) for each in now["tasks"]], sort)


def ordered(rates: Sequence[TaskRate], sort: str) -> list[TaskRate]:
    """By one of `SORTS`; what is not known comes last."""
    if sort == "id":
        return sorted(rates, key=lambda each: each.task_id)
    field = {"cpu": "cpu_percent", "memory": "rss_bytes", "output": "output_rate"}[sort]

    def used(each: TaskRate) -> float:
        value: float | None = getattr(each, field)
        return -1.0 if value is None else value

    return sorted(rates, key=used, reverse=True)


def _task_rate(before: TaskUse | None, now: TaskUse, seconds: float) -> TaskRate:
    cpu = _rate(before["cpuSeconds"], now["cpuSeconds"], seconds) if before else None
    return TaskRate(
        task_id=now["taskId"],
        processes=now["processes"],
        cpu_percent=None if cpu is None else 100 * cpu,
        rss_bytes=now["rssBytes"],
        output_rate=_rate(before["outputBytes"], now["outputBytes"], seconds) if before else None,
        output_bytes=now["outputBytes"],
    )


def _rate(before: float | None, now: float | None, seconds: float) -> float | None:
    if before is None or now is None or seconds <= 0:
        return None
    return max(0.0, now - before) / seconds  # another attempt begins at 0
