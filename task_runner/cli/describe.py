"""A task in words."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from datetime import datetime

from task_runner.cli.output import Cell, clean, duration, seconds_between
from task_runner.client.records import ProcessNote, Receipt, Task, is_over

COLUMNS = ("ID", "STATE", "EXIT", "AGE", "RUNTIME", "ENTITY", "TASK")

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
    "action timeout": "stopped by the time limit of an action",
    "cleanup timeout": "stopped by the time limit of the cleanup",
    "stalled": "stopped because it was silent",
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
    return (found, "red" if found.endswith("!") else colour(found))


def colour(found: str) -> str | None:
    """The colour of a state or an outcome."""
    return _COLOURS.get(found)


def row(task: Task, now: datetime) -> list[Cell]:
    """A line of the table with `COLUMNS`."""
    ending = str(task["exitCode"]) if task["exitCode"] is not None else task["signal"] or "-"
    age = seconds_between(task["createdAt"], None, now)
    runtime = seconds_between(task["startedAt"], task["finishedAt"], now)
    state, painted = coloured_word(task)
    percent = None if is_over(task) or not task["progress"] else task["progress"]["percent"]
    return [
        (task["taskId"], None),
        (state if percent is None else f"{state} {percent:.0f}%", painted),
        (ending, None),
        (duration(age), None),
        (duration(runtime), None),
        (clean(task["entity"] or "-"), None),
        (_with_note(task), None),
    ]


def _with_note(task: Task) -> str:
    """What it is, and what there is to say of it now."""
    again = None if task["attempt"] == 1 else f"attempt {task['attempt']}"
    said = task["progress"] and not is_over(task) and task["progress"]["message"]
    notes = [clean(note) for note in (again, task["pendingReason"], said) if note]
    return title(task) + (f" [{'; '.join(notes)}]" if notes else "")


def title(task: Task) -> str:
    """Its name, or else what it runs."""
    return clean(task["name"]) if task["name"] else command(task)


def command(task: Task) -> str:
    """What it runs, as a person would type it."""
    actions = task["spec"].get("actions") or [{}]
    first = action_command(actions[0])
    return first if len(actions) == 1 else f"{first} (and {len(actions) - 1} more)"


def action_command(action: dict[str, object]) -> str:
    """The same of one action."""
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
    return found and clean(f"{found['reason']} (since {found['since']})")
