"""`python -m task_runner.engines.sweep`: removes what engines keep for tasks, a conversation on stdin and stdout.

    <- {"daemon": "/var/lib/task-runner", "engines": {"podman": "/run/podman/podman.sock"}}
    -> {"found": [{"engine": …, "id": …, "name": …, "task": …, "attempt": 1}], "errors": []}
    <- {"remove": [ … some of the found … ]}
    -> {"removed": ["name", …], "errors": []}

A process of its own, because the daemon loads no engine's client, and an engine that hangs is then not its matter.
Here too a client is loaded only once it is needed.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from typing import Any

from task_runner.engines.base import LABEL_DAEMON, LABEL_START, LABEL_TASK, Engine, Found
from task_runner.engines.find import available, find_containers, open_engine
from task_runner.errors import TaskRunnerError


def main() -> None:
    """Answer both questions."""
    order = json.loads(sys.stdin.readline())
    found, errors = _find(order["daemon"], order["engines"])
    _answer({"found": found, "errors": errors})
    if line := sys.stdin.readline():
        _answer(_remove(order["engines"], json.loads(line)["remove"]))


def _find(daemon: str, sockets: Mapping[str, str]) -> tuple[list[dict[str, Any]], list[str]]:
    found: list[dict[str, Any]] = []
    there = available(sockets)
    # where containers were run there was an engine: it may be on its way
    errors = [] if there else ["no engine answers in the usual places"]
    for each in there:
        try:
            made = find_containers(each, sockets, {LABEL_DAEMON: daemon})
            found += [_told(each.name, one) for one in made if one.ours]
        except TaskRunnerError as error:
            errors.append(f"{each.name}: {error}")
    return found, errors


def _told(engine: str, found: Found) -> dict[str, Any]:
    attempt = found.labels.get(LABEL_START, "").partition(".")[0]
    return {
        "engine": engine,
        "id": found.id,
        "name": found.name,
        "task": found.labels.get(LABEL_TASK, ""),
        "attempt": int(attempt) if attempt.isdecimal() else 0,
    }


def _remove(sockets: Mapping[str, str], chosen: list[dict[str, Any]]) -> dict[str, Any]:
    opened: dict[str, Engine] = {}
    removed: list[str] = []
    errors: list[str] = []
    for each in chosen:
        name = each["engine"]
        try:
            if name not in opened:
                opened[name] = open_engine(name, sockets)
            opened[name].remove(each["id"])
            removed.append(each["name"])
        except TaskRunnerError as error:
            errors.append(f"{name}: {each['name']}: {error}")
    return {"removed": removed, "errors": errors}


def _answer(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(1)  # the daemon is gone; the next one asks again
