"""A client of `/v1`, blocking: its parts by noun are beside this file; `calls` says what is sent."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, cast

from task_runner.client import calls
from task_runner.client.batches import Batches
from task_runner.client.calls import Call
from task_runner.client.files import Files
from task_runner.client.records import Node
from task_runner.client.streams import Streams
from task_runner.client.tasks import BREATH
from task_runner.client.templates import Templates

_NODE_FIELDS = frozenset(Node.__annotations__)


class Client(Streams, Batches, Templates):
    """One daemon. Not to be used by two threads at once.

    ``patience``: seconds to wait for a daemon that has answered and went away; ``on_outage`` is told when that
    begins. ``met``: it has answered before, if not to this client. ``hint`` explains a missing token.
    """

    @property
    def files(self) -> Files:
        """What tasks have in their working directories."""
        return Files(self._connection)

    def node(self, wait: float | None = None) -> Node:
        """The daemon now, or as soon as no task runs if that is within ``wait`` seconds."""
        return self._node(calls.node(wait))

    def wait_empty(self, timeout: float | None = None) -> Node:
        """The daemon when no task runs, or after ``timeout`` seconds as it is then."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = calls.LONGEST_WAIT if end is None else max(0.0, end - time.monotonic())
            asked = time.monotonic()
            found = self.node(min(left, calls.LONGEST_WAIT))
            if found["empty"] or (end is not None and time.monotonic() >= end):
                return found
            if time.monotonic() - asked < BREATH:
                time.sleep(BREATH)  # a daemon about to go does not wait with us

    def drain(self) -> Node:
        """Start nothing new, this daemon and those after it."""
        return self._node(calls.drain(True))

    def undrain(self) -> Node:
        return self._node(calls.drain(False))

    def secrets(self) -> Sequence[dict[str, Any]]:
        """The secrets that the server knows: "name" and "source"."""
        return self._list(calls.secrets(), frozenset({"name", "source"}))

    def health(self) -> dict[str, Any]:
        return self._object(calls.health())

    def _node(self, call: Call) -> Node:
        return cast("Node", self._object(call, _NODE_FIELDS))
