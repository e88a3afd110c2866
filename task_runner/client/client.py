"""A client of `/v1`, blocking. One that awaits would differ here and in `connection`; `calls` says what is sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, cast

from task_runner.client import calls
from task_runner.client.calls import Call
from task_runner.client.connection import Connection
from task_runner.client.discovery import Address
from task_runner.client.errors import ApiError, ConnectionFailed, Silent
from task_runner.client.records import Node, Task, is_over
from task_runner.errors import TaskRunnerError

if TYPE_CHECKING:
    import httpx

#: seconds without a byte after which a stream is opened anew: the other end may be gone without a word
SILENCE = 60.0
#: seconds between two looks at a task that the daemon did not wait for
BREATH = 0.05

_TASK_FIELDS = frozenset(Task.__annotations__)
_NODE_FIELDS = frozenset(Node.__annotations__)


class Client:
    """One daemon. Not to be used by two threads at once.

    ``patience``: seconds to wait for a daemon that has answered and went away; ``on_outage`` is told when that
    begins. ``met``: it has answered before, if not to this client. ``hint`` explains a missing token.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        patience: float = 0.0,
        on_outage: Callable[[TaskRunnerError], None] | None = None,
        hint: str | None = None,
        met: bool = False,
    ) -> None:
        self._connection = Connection(url, token, patience=patience, on_outage=on_outage, hint=hint, met=met)
        self.url = url
        #: whether the daemon's directories are ours
        self.local = self._connection.local

    @classmethod
    def at(cls, address: Address, **options: Any) -> Client:
        """The client of an address that was found."""
        return cls(address.url, address.token, hint=address.hint, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._connection.close()

    # -- tasks

    def submit(self, body: Mapping[str, Any], idempotency_key: str | None = None) -> Task:
        """Hand in a task. With a key it is safe to call this again: the same key gives the same task."""
        return self._task(calls.submit(body, idempotency_key))

    def get(self, task_id: str, wait: float | None = None) -> Task:
        """The task now, or as soon as it is over if that is within ``wait`` seconds."""
        return self._task(calls.get(task_id, wait))

    def wait(self, task_id: str, timeout: float | None = None) -> Task:
        """The task when it is over, or after ``timeout`` seconds as it is then."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = calls.LONGEST_WAIT if end is None else max(0.0, end - time.monotonic())
            asked = time.monotonic()
            task = self.get(task_id, min(left, calls.LONGEST_WAIT))
            if is_over(task) or (end is not None and time.monotonic() >= end):
                return task
            if time.monotonic() - asked < BREATH:
                time.sleep(BREATH)  # a daemon about to go does not wait with us

    def list(self, **filters: str | float | bool | Iterable[str] | None) -> Iterator[Task]:
        """Tasks that match: state, outcome, tag, stalled, q, order. All pages; ``limit`` is of one."""
        call: Call | None = calls.listing(filters)
        while call is not None:
            response = self._connection.send(call)
            page = self._parsed(response)
            if not isinstance(page, list):
                raise self._connection.alien()
            for task in page:
                yield cast("Task", self._checked(task, _TASK_FIELDS))
            link = response.links.get("next", {}).get("url")
            call = calls.following(link) if link else None

    def stop(
        self, task_id: str, signal: str | None = None, grace: float | None = None, wait: float | None = None
    ) -> Task:
        """Stop a task; returns it as it is after a moment, or after at most ``wait`` seconds."""
        return self._task(calls.stop(task_id, signal, grace, wait))

    def pause(self, task_id: str) -> Task:
        return self._task(calls.pause(task_id))

    def resume(self, task_id: str) -> Task:
        return self._task(calls.resume(task_id))

    def signal(self, task_id: str, name: str) -> Task:
        """Send a signal to the first process of the task's current action."""
        return self._task(calls.send_signal(task_id, name))

    def retry(self, task_id: str) -> Task:
        """Run a task that is over once more."""
        return self._task(calls.retry(task_id))

    def delete(self, task_id: str) -> None:
        """Forget a task; one that is active is stopped first."""
        self._connection.send(calls.delete(task_id))

    def iter_output(
        self, task_id: str, offset: int = 0, follow: bool = False, tail: int | None = None
    ) -> Generator[bytes]:
        """The output from a byte offset, or its last ``tail`` lines; with ``follow`` to the end of the task.

        It is that of the attempt which is the latest at the call. A connection that breaks is opened anew at
        the byte where it broke, so every byte comes once.
        """
        task = self.get(task_id)
        task_id, attempt, position = task["taskId"], task["attempt"], offset
        while True:
            # looked up before the stream is opened: what is over by then has written all it will
            over = not follow or is_over(task) or task["attempt"] != attempt
            call = calls.output(task_id, offset=position, tail=tail, attempt=attempt, follow=not over, timeout=SILENCE)
            answered = False
            try:
                with self._connection.stream(call) as response:
                    answered = True
                    if tail is not None:
                        position, tail = int(response.headers.get("x-output-offset", 0)), None
                    for chunk in response.iter_raw():
                        position += len(chunk)
                        yield chunk
            except (ApiError, ConnectionFailed) as error:
                if not (answered and isinstance(error, Silent)):  # a task may well have nothing to say
                    self._connection.wait_out(error)
                continue
            if over:
                return
            task = self.get(task_id)
            if not is_over(task):
                time.sleep(BREATH)  # the daemon is about to go

    # -- the node

    def node(self) -> Node:
        return self._node(calls.node())

    def drain(self) -> Node:
        """Start nothing new."""
        return self._node(calls.drain(True))

    def undrain(self) -> Node:
        return self._node(calls.drain(False))

    def health(self) -> dict[str, Any]:
        return self._checked(self._json(calls.health()), frozenset())

    # -- answers

    def _task(self, call: Call) -> Task:
        return cast("Task", self._checked(self._json(call), _TASK_FIELDS))

    def _node(self, call: Call) -> Node:
        return cast("Node", self._checked(self._json(call), _NODE_FIELDS))

    def _json(self, call: Call) -> Any:
        return self._parsed(self._connection.send(call))

    def _parsed(self, response: httpx.Response) -> Any:
        try:
            return response.json()
        except ValueError:
            raise self._connection.alien() from None

    def _checked(self, value: Any, fields: frozenset[str]) -> dict[str, Any]:
        """A JSON object that has these fields."""
        if not isinstance(value, dict) or not fields <= value.keys():
            raise self._connection.alien()
        return value
