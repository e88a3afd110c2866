"""What the templates do to an application instance: `start ID`, `stop ID METHOD TIMEOUT`, `deploy ID BUILD DIRECTORY`.

An instance has a directory beside this file: instances/ID/builds/BUILD, with the link instances/ID/current to one of
these. Its server is a task of its own, of the entity "ID/server": what a step starts ends with the step.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from pathlib import Path

from task_runner.client import Address, Client, Task

INSTANCES = Path(__file__).resolve().parent / "instances"
KILL = 1
#: seconds for a server to answer its first query
START = 60.0
NOT_OVER = "scheduled,pending,starting,provisioning,running,paused,stopping,unknown"


def start(instance: str) -> None:
    """Start the server, and wait until it answers."""
    home = INSTANCES / instance
    if not (home / "current").exists():
        sys.exit(f"nothing has been deployed to instance {instance}")
    with _daemon() as client:
        if running := _servers(client, instance):
            print(f"it runs: task {running[0]['taskId']}")
            return
        order = {
            "name": f"server of instance {instance}",
            "command": ["./server"],
            "workingDirectory": str((home / "current").resolve()),
            "env": {"INSTANCE": str(home)},
            "entity": f"{instance}/server",
            "tags": {"instance": instance},
        }
        # whatever becomes of the answer: this step starts one server
        step = [os.environ[f"TASK_RUNNER_{name}"] for name in ("TASK_ID", "ATTEMPT", "ACTION")]
        task = client.submit(order, idempotency_key="/".join(step))
        print(f"task {task['taskId']}", flush=True)
        print(f"it answers: {_first_answer(client, task, home)}")


def stop(instance: str, method: str, timeout: str) -> None:
    """End the server, politely unless told otherwise, and wait for its end."""
    with _daemon() as client:
        servers = _servers(client, instance)
        for each in servers:
            if int(method) == KILL:
                client.stop(each["taskId"], signal="SIGKILL", grace=0)
            else:
                client.stop(each["taskId"], grace=float(timeout))
            task = client.wait(each["taskId"])
            receipt = task["receipt"] or {"killedCount": 0}
            how = "it was killed" if receipt["killedCount"] else "it ended when it was asked to"
            print(f"task {task['taskId']}: {how}")
        if not servers:
            print("it does not run")


def deploy(instance: str, build: str, directory: str) -> None:
    """Put a build into place; the server that runs, if one does, keeps its own."""
    home = INSTANCES / instance
    target = home / "builds" / build
    if not target.exists():
        half = home / "builds" / f".{build}"
        shutil.rmtree(half, ignore_errors=True)  # of a try that was cut short
        shutil.copytree(directory, half, symlinks=True)
        half.rename(target)
    link = home / ".current"
    link.unlink(missing_ok=True)
    link.symlink_to(f"builds/{build}")
    link.rename(home / "current")
    print(f"{home / 'current'} is {build}")


def _daemon() -> Client:
    """The daemon that runs this step; if it is just being replaced, the next one."""
    return Client.at(Address(os.environ["DAEMON_URL"], os.environ["DAEMON_TOKEN"]), patience=60, met=True)


def _servers(client: Client, instance: str) -> list[Task]:
    return list(client.list(entity=f"{instance}/server", state=NOT_OVER))


def _first_answer(client: Client, task: Task, home: Path) -> str:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        now = client.get(task["taskId"], wait=0.2)
        if now["outcome"] is not None:
            sys.exit(f"task {task['taskId']} has {now['outcome']}: exit code {now['exitCode']}, signal {now['signal']}")
        if answer := _ask(home):
            return answer
    sys.exit(f"task {task['taskId']} runs, and does not answer")


def _ask(home: Path) -> str | None:
    """What the server says of itself, as game servers do: a datagram for a datagram."""
    try:
        port = json.loads((home / "port").read_text())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as query:
            query.settimeout(0.5)
            query.connect(("127.0.0.1", port))
            query.send(b"info")
            answer = query.recv(1000).decode()
            return answer if json.loads(answer)["instance"] == home.name else None
    except (OSError, ValueError, KeyError):
        return None


if __name__ == "__main__":
    {"start": start, "stop": stop, "deploy": deploy}[sys.argv[1]](*sys.argv[2:])
