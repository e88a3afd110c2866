"""What the parts of a client share: questions that are asked until they are answered, and answers that are checked."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from task_runner.client import calls
from task_runner.client.calls import Call
from task_runner.client.errors import ApiError, ConnectionFailed, Unauthorized
from task_runner.client.link import KEY_SECONDS, Link, Outage
from task_runner.client.steps import Answer, Emit, Flow, Open, Pause, Plan, Send
from task_runner.errors import TaskRunnerError

T = TypeVar("T")

#: seconds between two looks at something that the daemon did not wait for
BREATH = 0.05
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')


class Core:
    """One daemon, asked in plans and flows."""

    _link: Link

    def _ask(self, call: Call) -> Plan[Answer]:
        """The answer, which is none of an error. Raises ApiError, ConnectionFailed."""
        outage = Outage(self._link, KEY_SECONDS if call.keyed else None)
        while True:
            try:
                return (yield from self._once(Send(call)))
            except (ApiError, ConnectionFailed) as error:
                if not call.repeatable:
                    raise
                yield outage.pause(error)

    def _once(self, step: Send | Open) -> Plan[Answer]:
        """The answer to one try."""
        answer: Answer = yield step
        if 200 <= answer.status < 300:
            self._link.heard()
            return answer
        try:
            body: Any = json.loads(answer.body)
        except ValueError:
            body = None
        error = ApiError.of(answer.status, body)
        if isinstance(error, Unauthorized) and self._link.hint:
            error = Unauthorized(401, f"{error.detail} ({self._link.hint})")
        raise error

    def _object(self, call: Call, fields: frozenset[str] = frozenset()) -> Plan[dict[str, Any]]:
        """The JSON object that is the answer, with these fields in it."""
        return self._checked(self._parsed((yield from self._ask(call))), fields)

    def _list(self, call: Call, fields: frozenset[str]) -> Plan[Sequence[dict[str, Any]]]:
        """The JSON array of such objects that is the answer."""
        return self._objects((yield from self._ask(call)), fields)

    def _pages(self, call: Call, fields: frozenset[str]) -> Flow[Any]:
        """Such objects of this page and all that follow it."""
        following: Call | None = call
        while following is not None:
            answer = yield from self._ask(following)
            for each in self._objects(answer, fields):
                yield Emit(each)
            link = _NEXT.search(answer.headers.get("link", ""))
            following = calls.following(link[1]) if link else None

    def _parsed(self, answer: Answer) -> Any:
        try:
            return json.loads(answer.body)
        except ValueError:
            raise self._link.alien() from None

    def _objects(self, answer: Answer, fields: frozenset[str]) -> Sequence[dict[str, Any]]:
        value = self._parsed(answer)
        if not isinstance(value, list):
            raise self._link.alien()
        return [self._checked(each, fields) for each in value]

    def _checked(self, value: Any, fields: frozenset[str]) -> dict[str, Any]:
        if not isinstance(value, dict) or not fields <= value.keys():
            raise self._link.alien()
        return value


def until(ask: Callable[[float], Plan[T]], over: Callable[[T], bool], timeout: float | None) -> Plan[T]:
    """What ``ask(wait)`` finds when it is over, or after ``timeout`` seconds as it is then."""
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        left = calls.LONGEST_WAIT if end is None else max(0.0, end - time.monotonic())
        asked = time.monotonic()
        found = yield from ask(min(left, calls.LONGEST_WAIT))
        if over(found) or (end is not None and time.monotonic() >= end):
            return found
        if time.monotonic() - asked < BREATH:
            yield Pause(BREATH)  # a daemon about to go does not wait with us


def collected(flow: Flow[T]) -> Plan[list[T]]:
    """All that a flow emits."""
    values = list[T]()
    try:
        step = next(flow)
        while True:
            if isinstance(step, Emit):
                values.append(step.value)
                step = flow.send(None)
                continue
            try:
                result = yield step
            except TaskRunnerError as error:
                step = flow.throw(error)
            else:
                step = flow.send(result)
    except StopIteration:
        return values
    finally:
        flow.close()


def required(record: type[Any]) -> frozenset[str]:
    """The fields that an answer must have to be this record. (`__required_keys__` cannot read annotations in text.)"""
    return frozenset(name for name, kind in record.__annotations__.items() if "NotRequired" not in str(kind))


def new_key() -> str:
    """An idempotency key that nobody else has."""
    return os.urandom(16).hex()


def task_of(task: str | Mapping[str, object]) -> str:
    """The id of a task, which may be the task itself, an event or a result of it."""
    return task if isinstance(task, str) else str(task["taskId"])


def batch_of(batch: str | Mapping[str, object]) -> str:
    """The id of a batch, which may be the batch itself."""
    return batch if isinstance(batch, str) else str(batch["batchId"])
