"""A client of i3D.net's task system, and what its answers are compared with."""

from __future__ import annotations

import time
from typing import Any

import httpx
from conftest import Daemon, wait_for
from dialectclient import DialectClient

from task_runner.api.dialects.i3d.tasks import PATIENCE

TASK = "/v3/applicationInstance/task"
BATCH = "/v3/applicationInstance/taskBatch"
OVER = (124, 125, 126, 127)
#: unix times: 0, or "T" for any other
_TIMES = ("createdAt", "executeAt", "lastActivityAt", "finishedAt")


class I3d(DialectClient):
    """With the token where its clients put it."""

    def __init__(self, daemon: Daemon, *, restarting: bool = False) -> None:
        super().__init__(daemon, {"PRIVATE-TOKEN": "{token}"}, restarting=restarting)

    def one(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """What is in the array of an answer that worked."""
        response = self.call(method, path, body)
        assert response.status_code == 200, response.text
        [item] = response.json()
        return dict(item)

    def create(self, template: str | int, *instances: int, **more: Any) -> dict[str, Any]:
        """A batch."""
        body = {"taskTemplateId": template, "applicationInstanceIds": [str(each) for each in instances], **more}
        return self.one("POST", TASK, body)

    def only(self, batch: dict[str, Any]) -> int:
        """The id of its one task."""
        [task] = batch["taskIds"]
        return int(task)

    def task(self, number: int) -> dict[str, Any]:
        return self.one("GET", f"{TASK}/{number}")

    # the answers to these two wait for what was asked for; on a machine that stood still, not long enough

    def turn(self, number: int, code: int) -> dict[str, Any]:
        """Pause a task, or let it go on; the task with this resultCode."""
        asked = time.monotonic()
        response = self.call("PUT", f"{TASK}/{number}")
        task = dict(response.json()[0]) if response.status_code == 200 else {}
        if task.get("resultCode") == code:
            return task
        assert time.monotonic() - asked > PATIENCE, response.text
        if response.status_code == 409:
            self.wait(number, 1)  # it had not begun by then
            return self.turn(number, code)
        return self.wait(number, code)

    def cancel(self, number: int) -> dict[str, Any]:
        """The task when it is over."""
        asked = time.monotonic()
        task = self.one("DELETE", f"{TASK}/{number}")
        assert task["finishedAt"] or time.monotonic() - asked > PATIENCE, task
        return task if task["finishedAt"] else self.wait(number)

    def wait(self, number: int, *codes: int) -> dict[str, Any]:
        """The task when its resultCode is one of these; unless said, when it is over."""
        wanted = codes or OVER
        return dict(wait_for(lambda: (t := self.task(number))["resultCode"] in wanted and t, f"{number} is {wanted}"))


def timeless(value: Any) -> Any:
    """An answer without its times."""
    if isinstance(value, list):
        return [timeless(each) for each in value]
    if isinstance(value, dict):
        return {name: ("T" if each else 0) if name in _TIMES else timeless(each) for name, each in value.items()}
    return value


def told(response: httpx.Response) -> tuple[int, Any]:
    return response.status_code, timeless(response.json())


def refusal(code: int, message: str, **errors: str) -> dict[str, Any]:
    """The error object. ``errors``: by property; a double underscore stands for a dot."""
    faults = [{"property": name.replace("__", "."), "message": text} for name, text in errors.items()]
    return {"errorCode": code, "errorMessage": message, "errors": faults}
