"""What was told to webhooks, and the names of the secrets that they and tasks may use."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.access import route
from task_runner.api.app import service_of
from task_runner.api.contract.node import SECRETS
from task_runner.api.contract.tasks import NOTHING, NOTIFICATIONS, REDELIVER
from task_runner.api.output import json_response
from task_runner.errors import NotFound
from task_runner.model.scopes import Scope
from task_runner.service.outbox import message_json


async def get_notifications(request: Request) -> Response:
    """GET /v1/tasks/{id}/notifications: an array, oldest first: what was to be told, and what came of it."""
    service = service_of(request)
    task = service.get(request.path_params["task_id"])
    return json_response([message_json(each) for each in service.notifier.of_task(task.id)])


async def redeliver(request: Request) -> Response:
    """POST …/notifications/{n}/redeliver: send it once more, or now instead of later."""
    service = service_of(request)
    await NOTHING.of(request)
    task, number = service.get(request.path_params["task_id"]), request.path_params["n"]
    if not (number.isascii() and number.isdigit() and len(number) < 19):
        raise NotFound(f"the task has no notification {number[:40]!r}")
    return json_response(message_json(await service.notifier.redeliver(task.id, int(number))))


async def get_secrets(request: Request) -> Response:
    """GET /v1/secrets: the names that tasks may use, and where each is kept. Values are never shown."""
    found = service_of(request).secrets.names()
    return json_response([{"name": name, "source": source} for name, source in found.items()])


routes = [
    route("/v1/tasks/{task_id}/notifications", get_notifications, scope=Scope.READ, doc=NOTIFICATIONS),
    route(
        "/v1/tasks/{task_id}/notifications/{n}/redeliver",
        redeliver,
        scope=Scope.CONTROL,
        methods=["POST"],
        doc=REDELIVER,
    ),
    route("/v1/secrets", get_secrets, scope=Scope.SUBMIT, doc=SECRETS),
]
