"""A task in words."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime

from task_runner.cli.output import Cell, clean, duration, paint, seconds_between, size
from task_runner.client.records import ProcessNote, Receipt, Task, is_over

COLUMNS = ("ID", "STATE", "EXIT", "AGE", "RUNTIME", "TASK")

_COLOURS = {
    "succeeded": "green",
    "failed": "red",
    "timed_out": "red",
    "lost": "magenta",
    "cancelled": "yellow",
    "running": "cyan",
    "stopping": "yellow",
    "paused": "yellow",
}
_REASONS = {
    "stop": "stopped because it was asked for",
    "timeout": "stopped by its time limit",
    "leftovers": "the command had ended and left processes behind",
    "runner died": "its runner had died; the daemon cleared what it left",
}


def word(task: Task) -> str:
    """How it ended, or where it is."""
    if is_over(task):
        return task["outcome"] or task["state"]
    return f"{task['state']}!" if task["stalled"] else task["state"]


def coloured_word(task: Task) -> Cell:
    found = word(task)
    return (found, "red" if found.endswith("!") else _COLOURS.get(found))


def row(task: Task, now: datetime) -> list[Cell]:
    """A line of the table with `COLUMNS`."""
    ending = str(task["exitCode"]) if task["exitCode"] is not None else task["signal"] or "-"
    age = seconds_between(task["createdAt"], None, now)
    runtime = seconds_between(task["startedAt"], task["finishedAt"], now)
    return [
        (task["taskId"], None),
        coloured_word(task),
        (ending, None),
        (duration(age), None),
        (duration(runtime), None),
        (title(task), None),
    ]


def title(task: Task) -> str:
    """Its name, or else what it runs."""
    return clean(task["name"]) if task["name"] else command(task)


def command(task: Task) -> str:
    """What it runs, as a person would type it."""
    actions = task["spec"].get("actions") or [{}]
    first = _action(actions[0])
    return first if len(actions) == 1 else f"{first} (and {len(actions) - 1} more)"


def _action(action: dict[str, object]) -> str:
    parameters = action.get("parameters")
    if isinstance(parameters, dict) and isinstance(parameters.get("command"), list):
        return clean(shlex.join(str(part) for part in parameters["command"]))
    if isinstance(parameters, dict) and isinstance(parameters.get("shell"), str):
        return clean(parameters["shell"])
    return clean(f"{action.get('machine', '?')}: {action.get('name') or parameters}")


def ending(task: Task, now: datetime) -> str:
    """One line: how it ended, or where it is."""
    parts = [word(task).rstrip("!").replace("_", " ")]
    if task["exitCode"] is not None and task["exitCode"] != 0:
        parts.append(f"with exit code {task['exitCode']}")
    if task["signal"]:
        parts.append(f"by {clean(task['signal'])}")
    runtime = seconds_between(task["startedAt"], task["finishedAt"], now)
    if runtime is not None:
        parts.append(f"after {duration(runtime)}")
    if task["error"]:
        parts.append(f"({clean(task['error'])})")
    return " ".join(parts)


def receipt(found: Receipt) -> str:
    """What a stop did."""
    parts = [_REASONS.get(found["reason"], clean(found["reason"]))]
    if found["signalledCount"]:
        processes = _processes(found["signalled"], found["signalledCount"])
        parts.append(f"{clean(found['signal'] or 'a signal')} to {processes}")
    if found["killedCount"]:
        grace = found["graceSeconds"]
        after = "" if grace is None else f" after {grace:g} s"
        parts.append(f"SIGKILL{after} to {_processes(found['killed'], found['killedCount'])}")
    survivors = found["survivors"]
    parts.append(f"STILL ALIVE: {_processes(survivors, len(survivors))}" if survivors else "nothing is left")
    return "; ".join(parts)


def _processes(notes: Sequence[ProcessNote], count: int) -> str:
    named = ", ".join(f"{clean(note['command'])} {note['pid']}" for note in notes[:5])
    more = ", …" if count > min(5, len(notes)) else ""
    return f"{count} process{'' if count == 1 else 'es'} ({named}{more})"


def stall(task: Task) -> str | None:
    """Why it is called stalled."""
    found = task["stalled"]
    if found is None:
        return None
    rest = ", ".join(f"{name} {value}" for name, value in found.items() if name != "reason" and value is not None)
    return clean(f"{found.get('reason', 'stalled')}" + (f" ({rest})" if rest else ""))


def details(task: Task, now: datetime) -> list[tuple[str, str]]:
    """Everything a person may want to know, as names and values; what is not known is left out."""
    found, colour = coloured_word(task)
    usage, output = task["usage"] or {}, task["output"] or {}
    given = task["receipt"]
    lines: list[tuple[str, str | None]] = [
        ("id", task["taskId"]),
        ("name", task["name"] and clean(task["name"])),
        ("state", task["state"] if not is_over(task) else f"{task['state']}, {paint(found, colour)}"),
        ("exit code", None if task["exitCode"] is None else str(task["exitCode"])),
        ("signal", task["signal"]),
        ("waits for", task["pendingReason"] and clean(task["pendingReason"])),
        ("stalled", stall(task)),
        ("error", task["error"] and clean(task["error"])),
        ("attempt", str(task["attempt"]) if task["attempt"] != 1 else None),
        ("created", task["createdAt"]),
        ("started", task["startedAt"]),
        ("finished", task["finishedAt"]),
        ("runtime", duration(seconds_between(task["startedAt"], task["finishedAt"], now))),
        ("CPU time", duration(usage["cpuSeconds"]) if usage.get("cpuSeconds") is not None else None),
        ("memory", size(usage["maxRssBytes"]) if usage.get("maxRssBytes") is not None else None),
        ("output", size(output["bytes"]) if output.get("bytes") is not None else None),
        ("stop", receipt(given) if given else None),
        ("tags", clean(", ".join(f"{key}={value}" for key, value in task["tags"].items())) or None),
        ("origin", task["origin"] and clean(task["origin"])),
        *(_action_line(task, index, each) for index, each in enumerate(task["spec"].get("actions") or [])),
    ]
    return [(name, value) for name, value in lines if value]


def _action_line(task: Task, index: int, action: dict[str, object]) -> tuple[str, str]:
    text = _action(action)
    happened = task["actions"][index] if index < len(task["actions"]) else None
    if happened is not None and len(task["spec"]["actions"]) > 1:
        ended = happened["exitCode"] if happened["exitCode"] is not None else happened["signal"]
        text += f"   [{happened['state']}{'' if ended is None else f', {ended}'}]"
    return (f"action {index}", text)
