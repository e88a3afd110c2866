"""The routes of batches."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.app import service_of
from task_runner.api.dialects.i3d.envelope import array, number_in, route
from task_runner.api.dialects.i3d.shown import ORIGIN
from task_runner.api.dialects.i3d.templates import form_of
from task_runner.api.dialects.i3d.view import batch_json
from task_runner.model.scopes import Scope
from task_runner.service.batch import Batch
from task_runner.service.tasks import TaskService

#: batches of a list
MOST = 100


async def list_batches(request: Request) -> Response:
    """GET …/taskBatch: the last 100."""
    service = service_of(request)
    return await shown(service, service.batches.of(ORIGIN, MOST))


async def get_batch(request: Request) -> Response:
    """GET …/taskBatch/{taskBatchId}"""
    service = service_of(request)
    return await shown(service, [service.batches.by_seq(number_in(request, "batch_id"), ORIGIN)])


async def shown(service: TaskService, found: Sequence[Batch]) -> Response:
    """These batches as they are now."""
    form, items = form_of(service.settings), []
    for batch in found:
        counted = service.batches.show(batch)  # first: what is counted as over is over in the list, too
        items.append(batch_json(batch, counted, await service.batches.standings(batch.id), form))
    return array(*items)


routes = [
    route("/applicationInstance/taskBatch", list_batches, scope=Scope.READ),
    route("/applicationInstance/taskBatch/{batch_id}", get_batch, scope=Scope.READ),
]
