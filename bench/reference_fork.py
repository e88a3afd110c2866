"""A stand-in for the way of Tessia's task runner, which is not to be had as a package: a web process that forks
itself for every task (multiprocessing.Process). The child writes a status file in place, runs the command, and
writes the file again. Nothing is durable, and a task is over when its child has gone.

It is not Tessia's code and does less than Tessia does, so it is the faster of the two.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import secrets
import subprocess
import time
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

_fork = multiprocessing.get_context("fork")
_root = os.environ.get("BENCH_REFERENCE_DIR", "")


def _path(task_id: str, name: str) -> str:
    return os.path.join(_root, task_id, name)


def _write(task_id: str, **status: Any) -> None:
    with open(_path(task_id, "status.json"), "w") as file:
        json.dump({"taskId": task_id, "heartbeat": time.time(), **status}, file)


def _carry_out(task_id: str, command: list[str]) -> None:
    """The child's whole life."""
    _write(task_id, state="running", pid=os.getpid())
    with open(_path(task_id, "output.log"), "wb") as output:
        code = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False).returncode
    _write(task_id, state="exited", exitCode=code)


async def create_task(request: Request) -> Response:
    command = (await request.json())["command"]
    task_id = secrets.token_hex(8)
    os.mkdir(os.path.join(_root, task_id))
    _write(task_id, state="created")
    _fork.Process(target=_carry_out, args=(task_id, command)).start()
    return JSONResponse({"taskId": task_id, "state": "created"}, 201)


async def get_task(request: Request) -> Response:
    with open(_path(request.path_params["task_id"], "status.json")) as file:
        try:
            return JSONResponse(json.load(file))
        except ValueError:
            return JSONResponse({"state": "unknown"})  # caught in the middle of being written


async def get_node(_request: Request) -> Response:
    return JSONResponse({"states": {"running": len(multiprocessing.active_children())}})


async def get_ready(_request: Request) -> Response:
    return JSONResponse({"status": "ready"})


def create_app() -> Starlette:
    return Starlette(
        routes=[
            Route("/ready", get_ready),
            Route("/v1/node", get_node),
            Route("/v1/tasks", create_task, methods=["POST"]),
            Route("/v1/tasks/{task_id}", get_task),
        ]
    )
