"""GET …/explain: why a task waits, what it does now, or how it ended."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from task_runner.api.output import json_response
from task_runner.model.codec import to_json
from task_runner.service.explain import explain
from task_runner.service.facts import gather
from task_runner.service.tasks import TaskService


async def get_explanation(request: Request) -> Response:
    """What is known of a task beyond its status, and a summary in words."""
    service: TaskService = request.app.state.service
    task = service.get(request.path_params["task_id"])
    return json_response(to_json(explain(await gather(service, task))))


routes = [Route("/v1/tasks/{task_id}/explain", get_explanation)]
