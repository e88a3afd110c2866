"""The daemon itself."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

from task_runner.client import calls
from task_runner.client.calls import Call
from task_runner.client.core import Core, required, task_of, until
from task_runner.client.records import History, Node, TasksUse, Timeline
from task_runner.client.steps import Plan, plan
from task_runner.client.tasks import TaskRef

_FIELDS = required(Node)
_HISTORY_FIELDS, _TIMELINE_FIELDS = required(History), required(Timeline)
_USE_FIELDS = required(TasksUse)


class Nodes(Core):
    """What a client may ask about the daemon."""

    @plan
    def node(self, wait: float | None = None) -> Plan[Node]:
        """The daemon now, or as soon as no task runs if that is within ``wait`` seconds."""
        return (yield from self._node(calls.node(wait)))

    @plan
    def wait_empty(self, timeout: float | None = None) -> Plan[Node]:
        """The daemon when no task runs, or after ``timeout`` seconds as it is then."""
        return (yield from until(lambda wait: self._node(calls.node(wait)), lambda node: node["empty"], timeout))

    @plan
    def node_tasks(self, tasks: Iterable[TaskRef] = ()) -> Plan[TasksUse]:
        """What every running task uses now, or of these the ones that run. Counters: two answers give rates."""
        call = calls.node_tasks([task_of(each) for each in tasks])
        return cast("TasksUse", (yield from self._object(call, _USE_FIELDS)))

    @plan
    def history(self, hours: int = 6) -> Plan[History]:
        """What the machine and the queue were like over the last hours, 24 at most."""
        return cast("History", (yield from self._object(calls.history(hours), _HISTORY_FIELDS)))

    @plan
    def timeline(self, begin: str | None = None, end: str | None = None, limit: int | None = None) -> Plan[Timeline]:
        """Which attempts ran between two moments (ISO 8601; the last hour), those that started last first."""
        return cast("Timeline", (yield from self._object(calls.timeline(begin, end, limit), _TIMELINE_FIELDS)))

    @plan
    def drain(self) -> Plan[Node]:
        """Start nothing new, this daemon and those after it."""
        return (yield from self._node(calls.drain(True)))

    @plan
    def undrain(self) -> Plan[Node]:
        """Start tasks again."""
        return (yield from self._node(calls.drain(False)))

    @plan
    def secrets(self) -> Plan[Sequence[dict[str, Any]]]:
        """The secrets that the server knows: "name" and "source"."""
        return (yield from self._list(calls.secrets(), frozenset({"name", "source"})))

    @plan
    def health(self) -> Plan[dict[str, Any]]:
        """That the daemon answers. The one call that needs no token."""
        return (yield from self._object(calls.health()))

    def _node(self, call: Call) -> Plan[Node]:
        return cast("Node", (yield from self._object(call, _FIELDS)))
