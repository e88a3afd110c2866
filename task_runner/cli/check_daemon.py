"""Checks of the daemon that runs, and of the service unit that starts it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence

from task_runner import __version__
from task_runner.cli.check import Result
from task_runner.client import ApiError, Client, ConnectionFailed, Node
from task_runner.client.records import Engine, Means, Template
from task_runner.errors import TaskRunnerError

UNIT = "task-runner.service"
_PROPERTIES = ("LoadState", "KillMode", "Type", "User")


def check_daemon(client: Client) -> Iterator[Result]:
    """Whether it answers, and how it is."""
    try:
        client.health()
        yield Result("daemon", "ok", f"answers at {client.url}")
        yield from node_results(client.node())
        yield from template_results(client.templates())
    except ConnectionFailed as error:
        yield Result("daemon", "fail", str(error), "`task-runner serve` starts it")
    except ApiError as error:
        remedy = "set TASK_RUNNER_TOKEN" if error.status == 401 else "see the daemon's log"
        yield Result("daemon", "fail", str(error), remedy)
    except TaskRunnerError as error:
        yield Result("daemon", "fail", str(error), "check TASK_RUNNER_URL and TASK_RUNNER_TOKEN")


def node_results(node: Node) -> Iterator[Result]:
    """What the daemon says of itself."""
    if node["version"] == __version__:
        yield Result("version", "ok", __version__)
    else:
        found = f"the daemon is {node['version']}, this is {__version__}"
        yield Result("version", "warn", found, "restart the daemon; its tasks run on")
    if node["storage"]["ok"]:
        yield Result("storage", "ok", "takes changes")
    else:
        remedy = "make room in the state directory; the daemon goes on by itself"
        yield Result("storage", "fail", str(node["storage"]["error"]), remedy)
    if node["storeSetAside"]:
        found = f"it was damaged and set aside as {node['storeSetAside']}"
        yield Result("store", "warn", found, "stop the daemon and run `task-runner fsck`")
    if node["stalled"]:
        yield Result("stalled tasks", "warn", str(node["stalled"]), "`task-runner list --stalled` names them")
    if node["draining"]:
        yield Result("drained", "warn", "no task is started", "`task-runner undrain`")
    yield from limit_results(node.get("limits", []))
    if "engines" in node:
        yield from engine_results(node["engines"])


def limit_results(means: Sequence[Means]) -> Iterator[Result]:
    """Which limits of tasks are enforced here, by what, and why not the others."""
    for each in means:
        note = f" ({each['note']})" if each["note"] else ""
        if each["by"] is None:
            yield Result(f"limit {each['limit']}", "info", f"not enforced{note}")
        else:
            yield Result(f"limit {each['limit']}", "ok", f"by {each['by']}{note}")


def engine_results(engines: Sequence[Engine]) -> Iterator[Result]:
    """Which container engines there are, and what helps where one cannot be used."""
    if not engines:
        yield Result("engines", "info", "there are none, so no containers can be run")
    for each in engines:
        if each["problem"] is not None:
            found, _, remedy = each["problem"].partition(": ")
            yield Result(f"engine {each['name']}", "warn", found, remedy or "see doc/howto/containers.md")
        else:
            yield Result(f"engine {each['name']}", "ok", f"version {each['version'] or 'not known'}")


def template_results(templates: Sequence[Template]) -> Iterator[Result]:
    """Those that cannot be used."""
    for each in templates:
        if each["error"] is not None:
            remedy = "mend the file in templates_dir; it is read again by itself"
            if each["origin"] == "store":
                remedy = f"`task-runner template put {each['name']} FILE` replaces it"
            yield Result(f"template {each['name']}", "warn", f"cannot be used: {each['error']}", remedy)


def check_units() -> Iterator[Result]:
    """The service units of this machine and of this user, where systemd runs."""
    if not os.path.isdir("/run/systemd/system"):
        yield Result("service unit", "info", "systemd does not run here")
        return
    found = False
    for scope in ("--system", "--user"):
        properties = _show(scope)
        if properties.get("LoadState") == "loaded":
            found = True
            yield unit_result(scope, properties)
    if not found:
        yield Result("service unit", "info", f"there is no {UNIT}")


def _show(scope: str) -> dict[str, str]:
    command = ["systemctl", scope, "show", UNIT, *(f"--property={name}" for name in _PROPERTIES)]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return dict(line.split("=", 1) for line in answer.stdout.splitlines() if "=" in line)


def unit_result(scope: str, properties: dict[str, str]) -> Result:
    """Whether a restart of this unit leaves the tasks alone."""
    name = f"service unit ({scope[2:]})"
    mode = properties.get("KillMode", "unknown")
    user = properties.get("User") or ("root" if scope == "--system" else "you")
    found = f"KillMode={mode}, Type={properties.get('Type', 'unknown')}, runs as {user}"
    if mode == "process":
        return Result(name, "ok", found)
    own = "--user " if scope == "--user" else ""
    remedy = (
        "a restart would kill every running task: put KillMode=process into [Service] "
        f"(`systemctl {own}edit {UNIT}`), then `systemctl {own}daemon-reload`, before the next restart"
    )
    return Result(name, "fail", found, remedy)
