"""GET …/explain: why a task waits, what it does now, or how it ended."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.access import holder_of, route
from task_runner.api.contract.tasks import EXPLAIN
from task_runner.api.output import json_response
from task_runner.model.codec import to_json
from task_runner.model.scopes import Scope
from task_runner.service.explain import explain
from task_runner.service.facts import gather
from task_runner.service.tasks import TaskService


async def get_explanation(request: Request) -> Response:
    """What is known of a task beyond its status, and a summary in words."""
    service: TaskService = request.app.state.service
    task = service.get(request.path_params["task_id"])
    shown = to_json(explain(await gather(service, task)))
    # the end of what it has written is not for everybody who may see the rest
    if Scope.LOGS not in holder_of(request).allowed:
        shown["lastOutput"] = None
    return json_response(shown)


routes = [route("/v1/tasks/{task_id}/explain", get_explanation, scope=Scope.READ, doc=EXPLAIN)]
