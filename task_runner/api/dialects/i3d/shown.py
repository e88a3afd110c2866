"""Answers with tasks: what the view needs is gathered here."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.responses import Response

from task_runner.api.dialects.i3d.envelope import array
from task_runner.api.dialects.i3d.templates import form_of
from task_runner.api.dialects.i3d.view import task_json, wants_output
from task_runner.errors import NotFound
from task_runner.service.facts import gather
from task_runner.service.store import Query
from task_runner.service.task import Task
from task_runner.service.tasks import TaskService

ORIGIN = "i3d"


async def tasks(service: TaskService, found: Sequence[Task]) -> Response:
    """These tasks as they are now."""
    form, batches = form_of(service.settings), dict[str, int]()
    items = []
    for task in found:
        if task.batch is not None and task.batch not in batches:
            batches[task.batch] = _number(service, task.batch)
        output = (await gather(service, task)).output if wants_output(task) else ()
        number = batches[task.batch] if task.batch else None
        items.append(task_json(task, form, batch=number, waits_for=service.queue.reason(task), output=output))
    return array(*items)


async def newest(service: TaskService, most: int, entity: str | None = None) -> Response:
    """The tasks that came in last, newest first; ``entity``: those of one instance."""
    query = Query(origin=ORIGIN, entity=entity, newest_first=True, limit=most)
    return await tasks(service, await service.page(query))


def _number(service: TaskService, batch_id: str) -> int:
    try:
        return service.batches.get(batch_id).seq
    except NotFound:
        return 0  # of a store that was made anew from the directories of its tasks
