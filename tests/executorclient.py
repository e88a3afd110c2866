"""The Go client of the task-executor, rebuilt: what it sends, and how strictly it decodes what it gets."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote

from conftest import Daemon, wait_for
from dialectclient import DialectClient

BEARER = {"Authorization": "Bearer {token}"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")


class GoClient:
    """Set and Get, as the controller uses them."""

    def __init__(self, daemon: Daemon, *, restarting: bool = False) -> None:
        self.http = DialectClient(daemon, BEARER, restarting=restarting)

    def set(self, task: dict[str, Any] | None) -> dict[str, Any] | None:
        response = self.http.post("/setTasks", [] if task is None else [task])
        assert response.status_code == 200, response.text
        tasks = [decoded(each) for each in response.json()]
        if task is None:
            return None
        return next((each for each in tasks if each["name"] == task["name"]), task)

    def get(self) -> dict[str, Any] | None:
        response = self.http.get("/getTasks")
        assert response.status_code == 200, response.text
        tasks = [decoded(each) for each in response.json()]
        return tasks[0] if tasks else None


def decoded(value: Any) -> dict[str, Any]:
    """A task as Go's types take it: fields that they do not have are passed over, those that they have must fit."""
    task = _struct(value, {"name": str, "process": dict, "podTemplateSpec": dict, "processStatus": dict, "podStatus": dict})
    assert "name" in task
    if "process" in task:
        kinds = {"command": list, "args": list, "env": list, "workingDir": str, "timeoutSeconds": int}
        task["process"] = _struct(task["process"], kinds)
    status = _struct(task["processStatus"], {"waiting": dict, "running": dict, "terminated": dict})
    (state,) = status
    kinds = {"reason": str, "message": str, "exitCode": int, "signal": int, "startedAt": _Time, "finishedAt": _Time}
    status[state] = _struct(status[state], kinds)
    assert (state == "terminated") == ("exitCode" in status[state])
    task["processStatus"] = status
    return task


class _Time:
    """metav1.Time."""


def _struct(value: Any, kinds: dict[str, type]) -> dict[str, Any]:
    assert isinstance(value, dict), value
    folded = {name.lower(): name for name in kinds}
    found = {}
    for key, item in value.items():
        name = folded.get(key.lower())
        if name is None or item is None:
            continue
        assert name not in found, f"{key} is decoded into the field of another"
        if kinds[name] is _Time:
            assert TIME.fullmatch(item), item
        else:
            assert type(item) is kinds[name], (name, item)
        found[name] = item
    return found


def timeless(value: Any) -> Any:
    """With "TIME" in place of every time."""
    if isinstance(value, dict):
        return {name: timeless(item) for name, item in value.items()}
    if isinstance(value, list):
        return [timeless(item) for item in value]
    return "TIME" if isinstance(value, str) and TIME.fullmatch(value) else value


def shell(name: str, script: str, **more: Any) -> dict[str, Any]:
    """A task that runs a script of the shell."""
    return {"name": name, "process": {"command": ["sh", "-c"], "args": [script], **more}}


def begun(client: DialectClient, name: str) -> dict[str, Any]:
    """A task, whole, once it runs. Its request waits for that, but not for ever."""
    path = f"/tasks/{quote(name, safe='')}"
    shown = wait_for(lambda: "running" in (task := client.get(path).json())["processStatus"] and task, f"{name} runs")
    return dict(shown)


def in_state(task: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
    """The same task in another state."""
    both = {"status": {"state": state}} if "status" in task else {}
    return {**task, "processStatus": state, **both}


def id_of(daemon: Daemon, name: str) -> str:
    """The task of this name, as `/v1` has it."""
    (found,) = daemon.http.get("/v1/tasks", params={"alias": f"executor:{name}"}).json()
    return str(found["taskId"])
