"""Everything that a person may want to know of a task, as names and values; what is not known is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from task_runner.cli.describe import action_command, colour, coloured_word, receipt, stall
from task_runner.cli.output import clean, duration, paint, seconds_between, size
from task_runner.cli.walls import wall_lines
from task_runner.client.records import ActionStatus, Attempt, Output, PastAttempt, Progress, Task, is_over

Line = tuple[str, str]


def details(task: Task, now: datetime) -> list[Line]:
    """Of a task."""
    found, painted = coloured_word(task)
    spec = task["spec"]
    lines: list[tuple[str, str | None]] = [
        ("id", task["taskId"]),
        ("name", _clean(task["name"])),
        ("alias", _clean(task["alias"])),
        ("state", task["state"] if not is_over(task) else f"{task['state']}, {paint(found, painted)}"),
        ("exit code", _number(task["exitCode"])),
        ("signal", task["signal"]),
        ("waits for", _clean(task["pendingReason"])),
        ("stalled", stall(task)),
        ("progress", progress(task["progress"])),
        ("error", _clean(task["error"])),
        ("damage", _clean(task["damage"])),
        ("entity", _clean(task["entity"])),
        ("batch", task["batch"]),
        ("template", task["template"]),
        ("priority", str(task["priority"]) if task["priority"] else None),
        ("attempt", str(task["attempt"]) if task["attempt"] != 1 else None),
        ("created", task["createdAt"]),
        ("to run at", task["executeAt"]),
        ("again at", task["retryAt"]),
        ("started", task["startedAt"]),
        ("finished", task["finishedAt"]),
        ("paused", _paused(task, now)),
        ("runtime", duration(seconds_between(task["startedAt"], task["finishedAt"], now))),
        *_usage(task["usage"]),
        ("processors", f"graphics {', '.join(map(str, task['gpus']))}" if task["gpus"] else None),
        *wall_lines(task),
        *_outputs(task["output"], task["stderr"]),
        ("input", None if task["inputBytes"] is None else size(task["inputBytes"])),
        ("stop", receipt(task["receipt"]) if task["receipt"] else None),
        ("tags", clean(", ".join(f"{key}={value}" for key, value in task["tags"].items())) or None),
        ("origin", _clean(task["origin"])),
        *_actions(spec.get("actions") or [], spec.get("cleanup") or [], task["actions"]),
        *map(_past, task["attempts"]),
    ]
    return [(name, value) for name, value in lines if value]


def attempt_details(attempt: Attempt, now: datetime) -> list[Line]:
    """Of one attempt."""
    outcome = attempt["outcome"]
    lines: list[tuple[str, str | None]] = [
        ("id", attempt["taskId"]),
        ("attempt", str(attempt["attempt"])),
        ("state", attempt["state"] if outcome is None else f"{attempt['state']}, {paint(outcome, colour(outcome))}"),
        ("exit code", _number(attempt["exitCode"])),
        ("signal", attempt["signal"]),
        ("progress", progress(attempt["progress"])),
        ("error", _clean(attempt["error"])),
        ("started", attempt["startedAt"]),
        ("finished", attempt["finishedAt"]),
        ("runtime", duration(seconds_between(attempt["startedAt"], attempt["finishedAt"], now))),
        *_usage(attempt["usage"]),
        *_outputs(attempt["output"], attempt["stderr"]),
        ("stop", receipt(attempt["receipt"]) if attempt["receipt"] else None),
        *((_kind(each), f"{_clean(each['name'] or each['machine'])}{_ended(each)}") for each in attempt["actions"]),
    ]
    return [(name, value) for name, value in lines if value]


def progress(found: Progress | None) -> str | None:
    """How far it is."""
    if found is None:
        return None
    percent = None if found["percent"] is None else f"{found['percent']:.0f}%"
    words = ", ".join(filter(None, (percent, _clean(found["message"]))))
    return f"{words} (at {found['at']})"


def _clean(text: str | None) -> str | None:
    return text and clean(text)


def _number(value: int | None) -> str | None:
    return None if value is None else str(value)


def _paused(task: Task, now: datetime) -> str | None:
    before = task["pausedSeconds"] or 0.0
    since = seconds_between(task["pausedAt"], None, now)
    if since is None and not before:
        return None
    return f"for {duration(before + (since or 0.0))}" + ("" if since is None else f", since {task['pausedAt']}")


def _usage(usage: Mapping[str, Any] | None) -> Iterator[tuple[str, str | None]]:
    found = usage or {}
    yield "CPU time", duration(found["cpuSeconds"]) if found.get("cpuSeconds") is not None else None
    yield "memory", size(found["maxRssBytes"]) if found.get("maxRssBytes") is not None else None


def _outputs(output: Output | None, stderr: Output | None) -> Iterator[tuple[str, str | None]]:
    yield "output" if stderr is None else "stdout", _output(output)
    yield "stderr", _output(stderr)


def _output(found: Output | None) -> str | None:
    if found is None:
        return None
    missing = sum(gap["bytes"] for gap in found["gaps"])
    gap = f", of which {size(missing)} in the middle are not kept" if missing else ""
    checksum = f", sha256 {found['sha256']}" if found["sha256"] else ""
    said = found.get("note")  # an older daemon does not say
    note = f"; {clean(said)}" if said else ""
    return f"{size(found['bytes'])}{gap}{checksum}{note}"


def _actions(
    actions: Sequence[dict[str, Any]], cleanup: Sequence[dict[str, Any]], happened: Sequence[ActionStatus]
) -> Iterator[Line]:
    """The cleanup is counted on, as in `currentActionIdx`."""
    for index, action in enumerate([*actions, *cleanup]):
        status = happened[index] if index < len(happened) else None
        alone = len(actions) + len(cleanup) == 1 and (status is None or status["tries"] < 2)
        words = "" if alone or status is None else _ended(status)
        yield f"{'action' if index < len(actions) else 'cleanup'} {index}", action_command(action) + words


def _kind(status: ActionStatus) -> str:
    return f"{'cleanup' if status['cleanup'] else 'action'} {status['index']}"


def _ended(status: ActionStatus) -> str:
    """In brackets: where an action is, or how it ended."""
    end = status["exitCode"] if status["exitCode"] is not None else status["signal"]
    tries = f"{status['tries']} tries" if status["tries"] > 1 else None
    words = [status["outcome"] or status["state"], None if end is None else str(end), tries, _clean(status["error"])]
    return f"   [{', '.join(filter(None, words))}]"


def _past(past: PastAttempt) -> Line:
    end = past["exitCode"] if past["exitCode"] is not None else past["signal"]
    words = [past["outcome"] or past["state"], None if end is None else str(end), _clean(past["error"])]
    when = f" at {past['finishedAt']}" if past["finishedAt"] else ""
    return f"attempt {past['attempt']}", ", ".join(filter(None, words)) + when
