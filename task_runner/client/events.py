"""Changes as they happen, each once."""

from __future__ import annotations

import json
from typing import cast

from task_runner.client import calls
from task_runner.client.core import BREATH, Core, task_of
from task_runner.client.errors import ApiError, ConnectionFailed, NotFound
from task_runner.client.link import Outage
from task_runner.client.records import FINAL_STATES, Event, is_over
from task_runner.client.sse import COMMENT, Message, Parser
from task_runner.client.steps import Emit, Flow, Open, Pause, Plan, Read, flow
from task_runner.client.tasks import TaskRef, Tasks
from task_runner.errors import TaskRunnerError

#: seconds without a byte after which the other end is taken for gone: the daemon sends a comment after 15
SILENCE = 45.0
_ALIVE = Message(COMMENT, None, "alive")


class Events(Core):
    """What a client may hear."""

    @flow
    def iter_events(self, task: TaskRef | None = None, *, after: int | None = None) -> Flow[Event]:
        """Every change of a task from its beginning, until it is over; without ``task``, of all tasks, for ever.

        ``after``: those behind this one (`event["id"]`); without it, of all tasks those that are new. A connection that
        breaks is opened anew behind the last event that came, so that each comes once, also from the next daemon.
        (It keeps a certain number, `keep_events_count`: who stays away for longer than that misses some.)
        """
        task_id = None if task is None else task_of(task)
        yield from _only_events(self._signs(task_id, after))

    def _signs(self, task_id: str | None, after: int | None) -> Flow[Event | None]:
        """The events, and None at each sign of life beside them, the first of which says that the stream is open."""
        outage, answered = Outage(self._link), False
        while True:
            parser = Parser()
            try:
                answer = yield from self._once(Open(calls.events(task_id, after, SILENCE)))
                outage.over()
                answered = True
                if after is None and (told := answer.headers.get("x-last-event-id")) is not None:
                    after = int(told)  # or what happens until the first event is lost with the connection
                yield Emit(None)
                while (data := (yield Read())) is not None:
                    outage.over()
                    for message in parser.feed(data):
                        event = _event(message, after)
                        if event is not None:
                            after = event["id"]
                        elif message.kind != COMMENT:
                            continue
                        yield Emit(event)
                        if task_id is not None and (yield from self._ends(task_id, message, event)):
                            return
            except NotFound:
                if not answered:
                    raise
                return  # it has been removed meanwhile
            except (ApiError, ConnectionFailed) as error:
                yield outage.pause(error)
            else:
                yield Pause(BREATH)  # the daemon is about to go

    def _ends(self, task_id: str, message: Message, event: Event | None) -> Plan[bool]:
        """Whether no event of this task is to be expected after this one, or after this sign that there is none."""
        if message != _ALIVE and (event is None or event["state"] not in FINAL_STATES):
            return False
        try:
            task = yield from Tasks.get.of(self, task_id)
        except NotFound:
            return True
        return is_over(task) and (event is None or event["attempt"] >= task["attempt"])


def _event(message: Message, after: int | None) -> Event | None:
    """The event in a message; None where there is none, or where it has come before."""
    if message.kind != "state" or message.id is None or not message.id.isdigit():
        return None
    number = int(message.id)
    if after is not None and number <= after:
        return None
    return cast("Event", {"id": number, **json.loads(message.data)})


def _only_events(signs: Flow[Event | None]) -> Flow[Event]:
    """The flow without what stands between its events."""
    try:
        step = next(signs)
        while True:
            if isinstance(step, Emit):
                if step.value is not None:
                    yield Emit(step.value)
                step = signs.send(None)
                continue
            try:
                result = yield step
            except TaskRunnerError as error:
                step = signs.throw(error)
            else:
                step = signs.send(result)
    except StopIteration:
        return
    finally:
        signs.close()
