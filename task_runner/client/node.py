"""The daemon itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from task_runner.client import calls
from task_runner.client.calls import Call
from task_runner.client.core import Core, required, until
from task_runner.client.records import Node
from task_runner.client.steps import Plan, plan

_FIELDS = required(Node)


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
