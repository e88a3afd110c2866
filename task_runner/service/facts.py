"""Gathering what is known of a task, for `explain`: from memory, from its files, from /proc."""

from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Sequence
from dataclasses import replace

from task_runner.errors import Damaged, NotFound, TaskRunnerError
from task_runner.lib.clock import stamp
from task_runner.lib.outputfilter import Masker, patterns
from task_runner.lib.portrait import MOST_COMMAND
from task_runner.lib.taskdir import open_regular
from task_runner.model.spec import OutputMode
from task_runner.service.explanation import Facts, LastOutput, Predecessor
from task_runner.service.task import Task
from task_runner.service.tasks import TaskService

#: bytes of output that are shown
EXCERPT = 2048
#: characters of a command line
LONGEST = 300
#: processes
MOST = 200


async def gather(service: TaskService, task: Task) -> Facts:
    """Everything about a task that takes no longer than a moment to find out."""
    environment, attempt = service.environment, task.record.attempt
    active = not task.final and not task.waiting
    sighting = environment.look(task.id, attempt) if active else None
    pulse = sighting.heartbeat if sighting else None
    secrets = _secrets(service, task)
    processes, count = await asyncio.to_thread(environment.tree, task.id, attempt, MOST) if active else ([], 0)
    return Facts(
        task_id=task.id,
        record=task.record,
        spec=task.spec,
        now=service.clock.time(),
        pending_reason=service.queue.reason(task),
        stalled=task.stalled,
        intent=task.intent,
        sighting=sighting,
        pulse_age=None if pulse is None else max(0.0, service.clock.monotonic() - pulse.monotonic),
        processes=[replace(each, command=_command(each.command, secrets)) for each in processes],
        process_count=count,
        output=await asyncio.to_thread(_output, service, task, secrets) if not task.waiting else (),
        ahead=_ahead(service, task),
        after=[_predecessor(service, each.task, each.on.value) for each in task.spec.after] if task.waiting else (),
    )


def _secrets(service: TaskService, task: Task) -> tuple[bytes, ...]:
    """What must not be shown: the values as they are now, of the secrets that the task may know."""
    values = []
    for use in task.spec.secrets:
        try:
            values.append(service.secrets.value(use.name))
        except NotFound:
            continue
    return patterns(values)


def _masked(data: bytes, secrets: Sequence[bytes]) -> bytes:
    masker = Masker(secrets)
    return masker.feed(data) + masker.end()


def _command(command: str, secrets: Sequence[bytes]) -> str:
    """A command line, masked first and cut then: half a secret is one, too."""
    data = command.encode(errors="replace")
    if len(data) < MOST_COMMAND:
        shown = _masked(data, secrets).decode(errors="replace")
    else:
        shown = Masker(secrets).feed(data).decode(errors="replace") + "…"  # its end has been cut off before
    return shown if len(shown) <= LONGEST else shown[: LONGEST - 1] + "…"


def _output(service: TaskService, task: Task, secrets: Sequence[bytes]) -> list[LastOutput]:
    apart = task.spec.output_mode is OutputMode.SEPARATE
    found = []
    for stream in ("stdout", "stderr") if apart else ("output",):
        path = service.environment.output_path(task.id, task.record.attempt, stream)
        found.append(_excerpt(stream, path, service.clock.time(), secrets))
    return [each for each in found if each is not None]


def _excerpt(stream: str, path: str, now: float, secrets: Sequence[bytes]) -> LastOutput | None:
    try:
        fd = open_regular(path)
    except (OSError, Damaged):
        return None
    try:
        seen = os.fstat(fd)
        # as much more as a secret is long: one that begins before the excerpt is masked as a whole
        length = EXCERPT + max(map(len, secrets), default=0)
        data = _masked(os.pread(fd, length, max(0, seen.st_size - length)), secrets)[-EXCERPT:]
    except OSError:
        return None
    finally:
        os.close(fd)
    if seen.st_size > len(data):
        data = data[data.find(b"\n", 0, len(data) - 1) + 1 :]  # not half a line, if there is a whole one
        while data and data[0] & 0xC0 == 0x80:
            data = data[1:]  # nor half a character
    text: str | None = None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        pass
    return LastOutput(
        stream=stream,
        bytes=seen.st_size,
        written_at=stamp(seen.st_mtime) if seen.st_size else None,
        age_seconds=max(0.0, now - seen.st_mtime) if seen.st_size else None,
        text=text,
        base64=base64.b64encode(data).decode() if text is None else None,
    )


def _ahead(service: TaskService, task: Task) -> list[str]:
    """The tasks of the same entity whose turn comes first."""
    if task.entity is None or not task.waiting:
        return []
    same = (each for each in service.book.active.values() if each.entity == task.entity)
    before = [each for each in same if each.seq < task.seq and not each.final]
    return [each.id for each in sorted(before, key=lambda each: each.seq)]


def _predecessor(service: TaskService, task_id: str, on: str) -> Predecessor:
    try:
        found = service.get(task_id).record
    except TaskRunnerError:
        return Predecessor(task_id=task_id, on=on)
    return Predecessor(
        task_id=task_id, on=on, state=found.state.value, outcome=found.outcome and found.outcome.value
    )
