"""What commands write, and what they read."""

from __future__ import annotations

import time
from collections.abc import Generator

from task_runner.client import calls
from task_runner.client.errors import ApiError, ConnectionFailed, Silent
from task_runner.client.records import is_over
from task_runner.client.tasks import BREATH, Tasks

#: seconds without a byte after which a stream is opened anew: the other end may be gone without a word
SILENCE = 60.0


class Streams(Tasks):
    """The output and the input of tasks."""

    def iter_output(
        self,
        task_id: str,
        offset: int = 0,
        follow: bool = False,
        tail: int | None = None,
        *,
        attempt: int | None = None,
        stream: str | None = None,
    ) -> Generator[bytes]:
        """The output from a byte offset, or its last ``tail`` lines; with ``follow`` to the end of the task.

        It is that of the attempt which is the latest at the call, unless ``attempt`` says which. ``stream`` is
        "stdout" (which is the default) or "stderr" where a task keeps them apart. A connection that breaks is opened
        anew at the byte where it broke, so every byte comes once. In place of bytes that are not kept comes a line
        that says so.
        """
        task = self.get(task_id)
        task_id, number, position = task["taskId"], attempt or task["attempt"], offset
        # only an output with a limit has gaps; then each answer ends before one, and the next says where it ends
        gaps = None if task["spec"].get("maxOutputBytes") is None else "stop"
        while True:
            # looked up before the stream is opened: what is over by then has written all it will
            over = not follow or is_over(task) or task["attempt"] != number
            call = calls.output(
                task_id,
                offset=position,
                tail=tail,
                attempt=number,
                follow=not over,
                timeout=SILENCE,
                stream=stream,
                gaps=gaps,
            )
            answered, begun = False, position
            try:
                with self._connection.stream(call) as response:
                    answered = True
                    start = int(response.headers.get("x-output-offset", position))
                    if tail is None and start > position:
                        yield b"\n[... %d bytes not kept ...]\n" % (start - position)
                    position, tail = start, None
                    for chunk in response.iter_raw():
                        position += len(chunk)
                        yield chunk
            except (ApiError, ConnectionFailed) as error:
                if not (answered and isinstance(error, Silent)):  # a task may well have nothing to say
                    self._connection.wait_out(error)
                continue
            if over and (gaps is None or position == begun):
                return
            if not over:
                task = self.get(task_id)
                if not is_over(task):
                    time.sleep(BREATH)  # the daemon is about to go, or a gap has opened

    def send_input(self, task_id: str, data: bytes, *, offset: int | None = None, end: bool = False) -> int:
        """Give a task's command bytes on its standard input; returns how many it has been given by now.

        ``end``: there will be no more. With ``offset``, the number given before, it is safe to call this again; where
        another number was given before, an ApiError with status 409 says so.
        """
        found = self._object(calls.send_input(task_id, data, offset, end), frozenset({"bytes"}))
        return int(found["bytes"])
