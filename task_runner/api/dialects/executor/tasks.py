"""The tasks of this dialect: found, listed, made and removed.

One that is being deleted is hidden from `/v1` at once. Here it is shown until nothing of it runs any more, and keeps
its name until then.
"""

from __future__ import annotations

import asyncio
import os
import stat
from typing import Any

from task_runner.api.dialects.executor import pods, process, sidecar
from task_runner.api.dialects.executor.view import PREFIX, kept
from task_runner.api.dialects.executor.wire import Asked, Process
from task_runner.errors import Conflict, InvalidRequest, NotFound, StartFailed
from task_runner.service.settings import Settings
from task_runner.service.store import Query
from task_runner.service.task import Task
from task_runner.service.tasks import TaskService
from task_runner.service.validate import parse_spec

ORIGIN = "executor"
#: the names of tasks that are over are to be known until they are deleted, and not run again: ten years
KEEP = 10 * 365 * 86_400
_PAGE = 10_000


def find(service: TaskService, name: str) -> Task | None:
    """The task of this name; one that is being deleted only if there is no other."""
    alias = PREFIX + name
    return service.aliases.find(alias) or next(
        (task for task in service.book.unfinished(ORIGIN, deleted=True) if task.alias == alias), None
    )


async def everything(service: TaskService) -> list[Task]:
    """All there are, in the order of acceptance; those that are being deleted after the others."""
    found: list[Task] = []
    while True:
        after = found[-1].seq if found else None
        page = await service.page(Query(origin=ORIGIN, after=after, limit=_PAGE))
        found += page
        if len(page) < _PAGE:
            return [task for task in found if not task.deleted] + service.book.unfinished(ORIGIN, deleted=True)


def count_active(service: TaskService) -> int:
    """How many are neither over nor being deleted."""
    return len(service.book.unfinished(ORIGIN))


async def create(service: TaskService, asked: Asked, token: str) -> Task:
    """Accept a task. The caller sees to it that nobody else does meanwhile. Raises Conflict, InvalidRequest,
    StartFailed, StorageFull."""
    limit = service.settings.executor_max_tasks
    if find(service, asked.name) is not None:
        raise Conflict(f"task {asked.name} already exists")
    if limit is not None and count_active(service) >= limit:
        raise Conflict(f"maximum concurrent tasks ({limit}) reached, cannot create new task")
    process.check_name(asked.name)
    body = body_of(asked, service.settings)
    if asked.process is not None:
        await asyncio.to_thread(check_start, asked.process, service.settings)
    try:
        accepted = await service.submit(parse_spec(body), origin=ORIGIN, token=token)
    except InvalidRequest as error:
        raise _in_their_words(error, asked) from None
    return accepted.task


def _in_their_words(error: InvalidRequest, asked: Asked) -> InvalidRequest:
    if asked.process is not None:
        return process.in_their_words(error, asked)
    return pods.in_their_words(error, asked.pod_template)


async def delete(service: TaskService, task: Task) -> None:
    """Have a task stopped, and removed when it is over. Raises Conflict where others wait for its end."""
    if task.deleted:
        return
    try:
        await service.delete(task.id)
    except NotFound:
        pass  # somebody else has deleted it meanwhile


def body_of(asked: Asked, settings: Settings) -> dict[str, Any]:
    """What a client asks for, as a body of `/v1`. Raises InvalidRequest."""
    return {
        **_work(asked, settings),
        "name": asked.name[:200],
        "alias": PREFIX + asked.name,
        "keepSeconds": KEEP,
        "metadata": kept(asked),
    }


def _work(asked: Asked, settings: Settings) -> dict[str, Any]:
    if asked.process is not None:
        body = process.body_of_process(asked, asked.process)
        action = body["actions"][0]
        action["parameters"] = sidecar.beside(action["parameters"], settings)
        return body
    if asked.pod_template is not None:
        return pods.spec_of_pod(asked.name, asked.pod_template, settings)
    if asked.container is not None:
        return pods.spec_of_container(asked.name, asked.container, asked.timeout_seconds, settings)
    raise InvalidRequest(f"failed to start task: no process and no podTemplateSpec given (task name: {asked.name})")


def check_start(wanted: Process, settings: Settings) -> None:
    """Raises StartFailed where a command could not be started now. What has gone at its start, though it is here now,
    makes the task fail."""
    if not settings.executor_sidecar:
        _check_directory(wanted.working_dir)
    elif why := sidecar.why_no_target(settings):
        raise StartFailed(f"failed to start task: {why}")


def _check_directory(path: str) -> None:
    if not path or os.path.normpath(path) == ".":
        return
    if not os.path.isabs(path):
        raise _no_start(path, "no such file or directory in the task's own, which is empty at the start")
    try:
        mode = os.stat(path).st_mode
    except OSError as error:
        raise _no_start(path, str(error.strerror).lower()) from None
    except ValueError:
        raise _no_start(path, "invalid argument") from None
    if not stat.S_ISDIR(mode):
        raise _no_start(path, "not a directory")
    if not os.access(path, os.X_OK):
        raise _no_start(path, "permission denied")


def _no_start(path: str, reason: str) -> StartFailed:
    return StartFailed(f"failed to start task: failed to start cmd: chdir {path}: {reason}")
