"""Applications and local services: there are none, and none can be made. Reading them is answered as on a cluster
that has none; of what would change one it is said that this is not done here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.access import Door, route
from task_runner.api.dialects.drove.envelope import failure, invalid, success
from task_runner.model.scopes import Scope

Handler = Callable[[Request], Awaitable[Response]]

_WHY = (
    "only tasks are run here, no applications and no local services: what is to run for ever can be a task without a"
    " time limit"
)


async def none_by_id(_request: Request) -> Response:
    """GET …/applications, GET …/localservices"""
    return success({})


async def no_list(_request: Request) -> Response:
    """Instances and endpoints."""
    return success([])


async def no_application(request: Request) -> Response:
    """GET …/applications/{id}, GET …/applications/{id}/spec"""
    return failure(f"App {request.path_params['id']} not found")


async def no_service(request: Request) -> Response:
    """GET …/localservices/{id}, GET …/localservices/{id}/spec"""
    return failure(f"Local service {request.path_params['id']} not found")


async def no_instance(request: Request) -> Response:
    """GET …/applications/{id}/instances/{instance_id}"""
    return failure(f"No such application instance {request.path_params['id']}/{request.path_params['instance_id']}")


async def no_service_instance(request: Request) -> Response:
    """GET …/localservices/{id}/instances/{instance_id}"""
    return failure(f"No such local service instance {request.path_params['id']}/{request.path_params['instance_id']}")


async def refuse(_request: Request) -> Response:
    """Operations, and the validation of what could not be run."""
    return invalid(_WHY)


def _of(kind: str, absent: Handler, absent_instance: Handler) -> list[Door]:
    base = f"/apis/v1/{kind}"
    return [
        route(base, none_by_id, scope=Scope.READ),
        route(f"{base}/operations", refuse, scope=Scope.SUBMIT, methods=["POST"]),
        route(f"{base}/operations/{{id}}/cancel", refuse, scope=Scope.SUBMIT, methods=["POST"]),
        route(f"{base}/validate/spec", refuse, scope=Scope.SUBMIT, methods=["POST"]),
        route(f"{base}/{{id}}", absent, scope=Scope.READ),
        route(f"{base}/{{id}}/spec", absent, scope=Scope.READ),
        route(f"{base}/{{id}}/instances", no_list, scope=Scope.READ),
        route(f"{base}/{{id}}/instances/old", no_list, scope=Scope.READ),
        route(f"{base}/{{id}}/instances/{{instance_id}}", absent_instance, scope=Scope.READ),
    ]


routes = [
    *_of("applications", no_application, no_instance),
    *_of("localservices", no_service, no_service_instance),
    route("/apis/v1/endpoints", no_list, scope=Scope.READ),
    route("/apis/v1/endpoints/app/{name}", no_list, scope=Scope.READ),
]
