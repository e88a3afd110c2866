"""The routes of the dialect."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.access import OPEN, both
from task_runner.api.app import concerns, service_of, token_of
from task_runner.api.body import raw_body
from task_runner.api.dialects.executor import mux, tasks
from task_runner.api.dialects.executor.gojson import encode
from task_runner.api.dialects.executor.podstatus import pod_status
from task_runner.api.dialects.executor.sync import synchronize
from task_runner.api.dialects.executor.view import task_json, words_of
from task_runner.api.dialects.executor.wire import Asked, read_task, read_tasks
from task_runner.api.surface import Refusal, Surface
from task_runner.errors import InvalidRequest, TaskRunnerError
from task_runner.model.scopes import Scope
from task_runner.model.state import State
from task_runner.service.settings import Settings
from task_runner.service.task import Task
from task_runner.service.tasks import TaskService

T = TypeVar("T")

#: seconds that an answer waits for the start of what it tells of; the controller waits 3 for an answer
START_PATIENCE = 2.0
LARGE_BODY = 65_536
_STARTED = {State.RUNNING, State.PROVISIONING, State.PAUSED, State.STOPPING}


def answer(refusal: Refusal) -> Response:
    """A refusal as the task-executor has it."""
    body = {"code": HTTPStatus(refusal.status).phrase, "message": refusal.detail}
    return Response(encode(body), refusal.status, refusal.headers, media_type="application/json")


def _json(value: Any, status: int = 200) -> Response:
    return Response(encode(value), status, media_type="application/json")


def _failure(what: str, error: object, status: int = 500) -> Response:
    return answer(Refusal(status, f"{what}: {error}"))


async def _body(request: Request, read: Callable[[bytes], T]) -> T:
    raw = await raw_body(request)
    # a large one takes long to read, and the daemon has others to answer
    return read(raw) if len(raw) < LARGE_BODY else await asyncio.to_thread(read, raw)


def _shown(service: TaskService, task: Task) -> dict[str, Any]:
    pod = pod_status(task) if "podTemplateSpec" in words_of(task) else None
    return task_json(task, service.queue.reason(task), pod)


async def _started(service: TaskService, asked: Asked, task: Task) -> None:
    """Wait for the start, for a moment: upstream answers when it is done. Where there is no room, nothing is to be
    waited for; where the time limit is over at once, the end."""
    if not task.waiting:
        limit = asked.process.timeout_seconds if asked.process else None
        await service.control.settle(task, set() if limit is not None and limit <= 0 else _STARTED, START_PATIENCE)


def _name(request: Request) -> str | None:
    """The part of the path behind /tasks/, decoded; none: it is more than one, or none."""
    raw = request.scope["raw_path"].partition(b"?")[0].removeprefix(b"/tasks/")
    return None if not raw or b"/" in raw else unquote(raw.decode("latin-1"), errors="replace")


class Handlers:
    """What is done for a request. Changes are made one after the other: what is checked before a task is accepted
    (its name, how many there are) is so when it is."""

    def __init__(self) -> None:
        self._changing = asyncio.Lock()

    async def create_task(self, request: Request) -> Response:
        """POST /tasks"""
        service = service_of(request)
        try:
            asked = await _body(request, read_task)
        except InvalidRequest as error:
            return _failure("invalid request body", error, 400)
        if not asked.name:
            return answer(Refusal(400, "task name is required"))
        try:
            async with self._changing:
                task = await tasks.create(service, asked, token_of(request))
        except TaskRunnerError as error:
            return _failure("failed to create task", error)
        concerns(request, tasks=[task.id])
        await _started(service, asked, task)
        return _json(_shown(service, task), 201)

    async def get_task(self, request: Request) -> Response:
        """GET /tasks/{id}"""
        service, name = service_of(request), _name(request)
        if name is None:
            return mux.not_found()
        task = tasks.find(service, name)
        if task is None:
            return answer(Refusal(404, f"task not found: task {name} not found"))
        return _json(_shown(service, task))

    async def delete_task(self, request: Request) -> Response:
        """DELETE /tasks/{id}: also where there is none."""
        service, name = service_of(request), _name(request)
        if name is None:
            return mux.not_found()
        try:
            async with self._changing:
                if (task := tasks.find(service, name)) is not None:
                    concerns(request, tasks=[task.id])
                    await tasks.delete(service, task)
        except TaskRunnerError as error:
            return _failure("failed to delete task", error)
        return Response(status_code=204)

    async def set_tasks(self, request: Request) -> Response:
        """POST /setTasks: from now on there are to be these."""
        service = service_of(request)
        try:
            desired = await _body(request, read_tasks)
        except InvalidRequest as error:
            return _failure("invalid request body", error, 400)
        async with self._changing:
            result = await synchronize(service, desired, token_of(request))
        concerns(request, tasks=[each.id for each in (*result.deleted, *(task for _asked, task in result.created))])
        await asyncio.gather(*(_started(service, *each) for each in result.created))
        if result.failures:
            return _failure("failed to sync tasks", "\n".join(result.failures))
        return await self.get_tasks(request)

    async def get_tasks(self, request: Request) -> Response:
        """GET /getTasks"""
        service = service_of(request)
        return _json([_shown(service, task) for task in await tasks.everything(service)])


async def health(_request: Request) -> Response:
    """GET /health"""
    return _json({"status": "healthy"})


def surface(_settings: Settings) -> Surface:
    """What the task-executor's clients see."""
    handlers = Handlers()
    return Surface(
        name="executor",
        prefixes=("/tasks", "/setTasks", "/getTasks"),
        routes=[
            *mux.at("/health", {"GET": (health, OPEN)}),
            *mux.at("/tasks", {"POST": (handlers.create_task, Scope.SUBMIT)}),
            *mux.at(
                "/tasks/{id:path}",
                {"GET": (handlers.get_task, Scope.READ), "DELETE": (handlers.delete_task, Scope.CONTROL)},
            ),
            *mux.at("/setTasks", {"POST": (handlers.set_tasks, both(Scope.SUBMIT, Scope.CONTROL))}),
            *mux.at("/getTasks", {"GET": (handlers.get_tasks, Scope.READ)}),
            *mux.elsewhere(),
        ],
        answer=answer,
    )
