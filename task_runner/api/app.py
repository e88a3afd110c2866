"""What the routes have of the application they belong to."""

from __future__ import annotations

from starlette.requests import Request

from task_runner.service.tasks import TaskService


def service_of(request: Request) -> TaskService:
    """Everything that can be asked for."""
    service: TaskService = request.app.state.service
    return service


def token_of(request: Request) -> str:
    """The name of the token that let a request in."""
    return str(request.state.token)
