"""What commands write, and what they read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from task_runner.client import calls
from task_runner.client.core import BREATH, collected, new_key, task_of
from task_runner.client.errors import ApiError, ConnectionFailed, Silent
from task_runner.client.link import Outage
from task_runner.client.records import is_over
from task_runner.client.steps import Emit, Flow, Open, Pause, Plan, Read, flow, plan
from task_runner.client.tasks import TaskRef, Tasks
from task_runner.client.work import Work, body_of

if TYPE_CHECKING:
    from task_runner.client.results import Completed

#: seconds without a byte after which a stream is opened anew: the other end may be gone without a word
SILENCE = 60.0


class Streams(Tasks):
    """The output and the input of tasks."""

    @flow
    def iter_output(
        self,
        task: TaskRef,
        offset: int = 0,
        follow: bool = False,
        tail: int | None = None,
        *,
        attempt: int | None = None,
        stream: str | None = None,
    ) -> Flow[bytes]:
        """The output from a byte offset, or its last ``tail`` lines; with ``follow`` to the end of the task.

        It is that of the attempt which is the latest at the call, unless ``attempt`` says which. ``stream`` is
        "stdout" (which is the default) or "stderr" where a task keeps them apart. A connection that breaks is opened
        anew at the byte where it broke, so every byte comes once. In place of bytes that are not kept comes a line
        that says so.
        """
        latest = yield from Tasks.get.of(self, task)
        task_id, number, position = latest["taskId"], attempt or latest["attempt"], offset
        # only an output with a limit has gaps; then each answer ends before one, and the next says where it ends
        gaps = None if latest["spec"].get("maxOutputBytes") is None else "stop"
        outage = Outage(self._link)
        while True:
            # looked up before the stream is opened: what is over by then has written all it will
            over = not follow or is_over(latest) or latest["attempt"] != number
            call = calls.output(
                task_id,
                offset=position,
                tail=tail,
                attempt=number,
                follow=not over,
                silence=SILENCE,
                stream=stream,
                gaps=gaps,
            )
            answered, begun = False, position
            try:
                answer = yield from self._once(Open(call))
                outage.over()
                answered = True
                start = int(answer.headers.get("x-output-offset", position))
                if tail is None and start > position:
                    yield Emit(b"\n[... %d bytes not kept ...]\n" % (start - position))
                position, tail = start, None
                while (chunk := (yield Read())) is not None:
                    position += len(chunk)
                    yield Emit(chunk)
            except (ApiError, ConnectionFailed) as error:
                if not (answered and isinstance(error, Silent)):  # a task may well have nothing to say
                    yield outage.pause(error)
                continue
            if over and (gaps is None or position == begun):
                return
            if not over:
                latest = yield from Tasks.get.of(self, task_id)
                if not is_over(latest):
                    yield Pause(BREATH)  # the daemon is about to go, or a gap has opened

    @plan
    def send_input(self, task: TaskRef, data: bytes, *, offset: int | None = None, end: bool = False) -> Plan[int]:
        """Give a task's command bytes on its standard input; returns how many it has been given by now.

        ``end``: there will be no more. With ``offset``, the number given before, it is sent again where the answer was
        lost; where another number was given before, Conflict says so. Without it, it is sent once.
        """
        found = yield from self._object(calls.send_input(task_of(task), data, offset, end), frozenset({"bytes"}))
        return int(found["bytes"])

    @plan
    def run(
        self, /, work: Work | None = None, idempotency_key: str | None = None, *, check: bool = False, **spec: Any
    ) -> Plan[Completed]:
        """Hand in a task as `submit` does, wait for its end, and fetch what it wrote, all of it.

        ``check``: raises TaskFailed where it did not succeed. A time limit is a matter of the task
        (`timeout_seconds=600`). If this is interrupted the task goes on.
        """
        from task_runner.client.results import Completed, ending_of

        key = new_key() if idempotency_key is None else idempotency_key
        begun = yield from self._task(calls.submit(body_of(work, spec), key))
        task = yield from Tasks.wait.of(self, begun)
        output = yield from collected(Streams.iter_output.of(self, task, attempt=task["attempt"]))
        apart = task["stderr"] is not None
        errors = yield from collected(Streams.iter_output.of(self, task, stream="stderr")) if apart else _nothing()
        result = Completed(
            task=task, output=b"".join(output), stderr=b"".join(errors) if apart else None, **ending_of(task)
        )
        return result.check() if check else result


def _nothing() -> Plan[list[bytes]]:
    yield from ()
    return []
