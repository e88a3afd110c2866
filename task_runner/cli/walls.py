"""The walls around a task on the command line: how they are asked for, and how what became of them is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import click

from task_runner.cli import forward
from task_runner.cli.output import clean, duration, size
from task_runner.cli.values import mebibytes, pair, reading
from task_runner.client.records import ActionStatus, LimitNote, Node, Possible, Task


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is no whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None


#: name on the command line: field of the spec's limits, and how its value is read
_LIMITS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "memory": ("memoryMb", mebibytes),
    "swap": ("swapMb", mebibytes),
    "cpus": ("cpus", _number),
    "pids": ("pids", _whole),
    "open-files": ("openFiles", _whole),
    "core": ("coreMb", mebibytes),
    "file": ("fileMb", mebibytes),
    "nice": ("nice", _whole),
    "io-weight": ("ioWeight", _whole),
}
_NAMES = {field: name for name, (field, _read) in _LIMITS.items()}


def limit(text: str) -> tuple[str, Any]:
    """NAME=VALUE as field and value. Raises ValueError."""
    name, value = pair(text)
    if name not in _LIMITS:
        raise ValueError(f"{name!r} is no limit; there are: {', '.join(_LIMITS)}")
    field, read = _LIMITS[name]
    return field, read(value)


OPTIONS = [
    click.option(
        "--limit",
        "limits",
        multiple=True,
        callback=reading(limit),
        metavar="NAME=VALUE",
        help=f"What it may use at most: {', '.join(_LIMITS)}; again for more.",
    ),
    click.option("--require-limits", is_flag=True, help="Refuse it where one of these cannot be enforced."),
    click.option("--user", metavar="USER", help="Run as this user of the server's machine."),
    click.option("--group", metavar="GROUP", help="With this group in place of the user's own."),
    click.option("--umask", metavar="OCTAL", help="Permission bits that new files do not get. [022]"),
    forward.OPTION,
]


def terms(given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a spec that the options say. Raises UsageError."""
    limits = dict(given.get("limits", ()))
    if given.get("require_limits"):
        if not limits:
            raise click.UsageError("--require-limits needs --limit NAME=VALUE")
        limits["required"] = True
    wanted = {"limits": limits or None, **{name: given.get(name) for name in ("user", "group", "umask")}}
    wanted["logging"] = forward.logging(given.get("forward", ()))
    return {field: value for field, value in wanted.items() if value is not None}


def wall_lines(task: Task) -> Iterator[tuple[str, str | None]]:
    """What became of a task's walls; an older daemon does not say."""
    user = task.get("userId")
    yield "user", None if user is None else f"uid {user}"
    yield from _limit_lines(task.get("limits") or [])
    yield from _counted(task.get("accounting") or {})
    yield "out of memory", "the kernel killed processes of it" if task.get("oomKilled") else None
    missed = task.get("unforwardedLines")
    yield "not forwarded", f"{missed} lines" if missed else None
    for action in task["actions"]:
        yield from _container_lines(action)


def possible_lines(node: Node) -> Iterator[tuple[str, str]]:
    """Which walls there can be on the daemon's machine; an older daemon does not say."""
    found = node.get("limits") or []
    if found:
        none = [_NAMES.get(each["limit"], each["limit"]) for each in found if each["by"] is None]
        yield "limits", f"not enforced: {', '.join(none)} (`task-runner doctor` says why)" if none else "all enforced"
    for engine in node.get("engines") or []:
        told = clean(engine["problem"]) if engine["problem"] else f"version {clean(engine['version'] or 'unknown')}"
        yield "engine", f"{engine['name']}: {told}"
    kinds: list[tuple[str, Possible | None]] = [("sandbox", node.get("sandbox")), ("sidecars", node.get("sidecars"))]
    for name, possible in kinds:
        if possible is not None:
            yield name, clean(possible["problem"]) if possible["problem"] else "yes"


def _limit_lines(limits: Sequence[LimitNote]) -> Iterator[tuple[str, str | None]]:
    for each in limits:
        how = f"by {each['by']}" if each["by"] else "NOT ENFORCED"
        note = f" ({clean(each['note'])})" if each["note"] else ""
        yield f"limit {_NAMES.get(each['limit'], each['limit'])}", f"{each['asked']:g}, {how}{note}"


def _counted(found: Mapping[str, Any]) -> Iterator[tuple[str, str | None]]:
    """What the kernel counted for the whole task."""
    for name, key, shown in (
        ("CPU, all of it", "cpuSeconds", duration),
        ("peak memory", "memoryPeakBytes", size),
        ("read", "readBytes", size),
        ("written", "writtenBytes", size),
        ("throttled", "throttledSeconds", duration),
        ("most processes", "pidsPeak", str),
    ):
        value = found.get(key)
        yield name, None if value is None else shown(value)
    refused = found.get("pidsRefused")
    yield "no process for", f"{refused} forks" if refused else None


def _container_lines(action: ActionStatus) -> Iterator[tuple[str, str | None]]:
    container = action.get("container")
    if container is None:
        return
    identity = f", {container['id'][:12]}" if container["id"] else ""
    yield "container", clean(f"{container['engine']} {container['name']}{identity}, image {container['image']}")
    yield from _limit_lines(container["limits"])
    yield from _counted(container["accounting"] or {})
