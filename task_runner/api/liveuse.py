"""What running tasks use now: GET /v1/node/tasks, and the events `use` of a stream that asks for them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection
from typing import Any

from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from task_runner.api.app import service_of
from task_runner.api.contract import node as contract
from task_runner.api.streams import Streams
from task_runner.errors import InvalidRequest
from task_runner.service.liveuse import Figures, LiveUse, Look

_ID = re.compile(contract.USE_TASK.pattern or "")


async def get_tasks_use(request: Request) -> Response:
    """GET /v1/node/tasks: with ?task=ID, of these alone. One that does not run is left out."""
    asked = request.query_params.getlist("task")
    for each in asked:
        if not _ID.fullmatch(each):
            raise InvalidRequest.at("task", f"the id of a task is expected, 16 hexadecimal digits; found {each[:40]!r}")
    use = service_of(request).use
    look = await use.look()
    wanted = dict.fromkeys(asked) if asked else look.tasks
    chosen = [each for each in wanted if each in look.tasks and use.is_live(each)]
    return Response(await asyncio.to_thread(_encode, look, chosen), media_type="application/json")


def _encode(look: Look, chosen: Collection[str]) -> bytes:
    tasks = [_shown(task_id, look.tasks[task_id]) for task_id in chosen]
    return to_json({"at": look.at, "monotonicSeconds": look.monotonic, "tasks": tasks})


def _shown(task_id: str, figures: Figures) -> dict[str, Any]:
    return {
        "taskId": task_id,
        "cpuSeconds": figures.cpu_seconds,
        "rssBytes": figures.rss_bytes,
        "processes": figures.processes,
        "outputBytes": figures.output_bytes,
    }


class UseEvents:
    """What one stream of events has been told of the use of tasks: of all, or of one."""

    def __init__(self, use: LiveUse, seconds: int, task_id: str | None) -> None:
        self._use = use
        self._seconds = seconds
        self._task_id = task_id
        self._told: dict[str, Figures] = {}
        self._looked: float | None = None
        #: when the next is to be sent, on the loop's clock
        self.due = asyncio.get_running_loop().time()

    async def next(self) -> bytes | None:
        """The event that is due: the tasks of which something has changed, also where there are none, which is what
        tells an idle task from one of which nothing is known. None where the last look has been told."""
        self.due = asyncio.get_running_loop().time() + self._seconds
        look = await self._use.look()
        if look.monotonic == self._looked:
            return None
        self._looked = look.monotonic
        live = [each for each in look.tasks if self._task_id in (None, each) and self._use.is_live(each)]
        return await asyncio.to_thread(self._news, look, live)

    def _news(self, look: Look, live: Collection[str]) -> bytes:
        now = {each: look.tasks[each] for each in live}
        changed = {each: figures for each, figures in now.items() if self._told.get(each) != figures}
        self._told = now
        # without an id: a client that comes back is not to go on behind this one
        return Streams.event("use", None, {"at": look.at, "monotonicSeconds": look.monotonic, "tasks": changed})
