"""The routes of the dialect."""

from __future__ import annotations

from http import HTTPStatus

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from task_runner.api.surface import Refusal, Surface
from task_runner.service.settings import Settings


def answer(refusal: Refusal) -> Response:
    """A refusal as the task-executor has it."""
    body = {"code": HTTPStatus(refusal.status).phrase, "message": refusal.detail}
    return Response(to_json(body) + b"\n", refusal.status, refusal.headers, media_type="application/json")


async def health(_request: Request) -> Response:
    """GET /health"""
    return Response(b'{"status":"healthy"}\n', media_type="application/json")


def surface(_settings: Settings) -> Surface:
    """What the task-executor's clients see."""
    return Surface(
        name="executor",
        prefixes=("/tasks", "/setTasks", "/getTasks"),
        routes=[Route("/health", health)],
        answer=answer,
        open_paths=frozenset({"/health"}),
    )
