"""Waiting for a batch: how far it is, and how it ended."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from task_runner.cli import exitcode
from task_runner.cli.output import clean, duration, emit, now, say, seconds_between
from task_runner.client import Batch, BatchResult, Client

#: seconds between two looks, where somebody looks on
_LOOK = 0.5
#: so many of those that did not succeed are named
_NAMED = 10
_WORDS = {"succeeded": "ok", "timed_out": "timed out"}


def await_batch(client: Client, batch_id: str, timeout: float | None = None) -> Batch:
    """The batch when it is over, or after ``timeout`` seconds as it is then. On a terminal a bar shows how far it is.

    Ctrl-C ends the waiting, and says what goes on.
    """
    end = None if timeout is None else time.monotonic() + timeout
    try:
        if not _looked_at():
            return client.wait_batch(batch_id, timeout)
        with _bar(batch_id) as show:
            while True:
                left = _LOOK if end is None else min(_LOOK, max(0.0, end - time.monotonic()))
                found = client.wait_batch(batch_id, left)
                show(found)
                if found["finishedAt"] is not None or (end is not None and time.monotonic() >= end):
                    return found
    except KeyboardInterrupt:
        say(
            f"batch {batch_id} goes on: `task-runner batch wait {batch_id}` waits for it, "
            f"`task-runner batch stop {batch_id}` stops it"
        )
        raise


def _looked_at() -> bool:
    return sys.stderr.isatty() and os.environ.get("TERM") not in (None, "", "dumb", "unknown")


@contextmanager
def _bar(batch_id: str) -> Iterator[Callable[[Batch], None]]:
    """A bar on standard error, which is gone at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    with Progress(*columns, TextColumn("{task.fields[counts]}", markup=False), console=console, transient=True) as bar:
        row = bar.add_task(f"batch {batch_id}", total=None, counts="")

        def show(found: Batch) -> None:
            over = found["numTasksOk"] + found["numTasksFailed"] + found["numTasksCancelled"]
            bar.update(row, total=found["numTasks"], completed=over, counts=_counts(found))

        yield show


def _counts(found: Batch) -> str:
    ended = {"failed": found["numTasksFailed"], "cancelled": found["numTasksCancelled"]}
    return ", ".join(f"{count} {clean(word)}" for word, count in {**ended, **found["states"]}.items() if count)


def show_end(client: Client, found: Batch, lines: Mapping[str, int], as_json: bool) -> int:
    """Say how a batch ended; returns the exit code for it. ``lines``: where in the file each task stands."""
    results = client.batch_results(found["batchId"])
    bad = [each for each in results if each["outcome"] not in (None, "succeeded")]
    counts = Counter(each["outcome"] or each["state"] for each in results)
    if as_json:
        emit({**found, "outcomes": counts, "failures": [{**each, "line": lines.get(each["taskId"])} for each in bad]})
    else:
        took = duration(seconds_between(found["createdAt"], found["finishedAt"], now()))
        tasks = "1 task" if found["numTasks"] == 1 else f"{found['numTasks']} tasks"
        click.echo(f"{found['batchId']}: {tasks} in {took}: {_summary(counts, found, len(results))}")
        for each in bad[:_NAMED]:
            click.echo(f"  {_failure(each, lines)}", err=True)
        if len(bad) > _NAMED:
            click.echo(f"  and {len(bad) - _NAMED} more: `task-runner batch results {found['batchId']}`", err=True)
    return exitcode.OK if found["numTasksOk"] == found["numTasks"] else exitcode.FAILED


def _summary(counts: Mapping[str, int], found: Batch, known: int) -> str:
    parts = [f"{count} {clean(_WORDS.get(word, word))}" for word, count in counts.items()]
    if known < found["numTasks"]:
        parts.append(f"{found['numTasks'] - known} removed since")
    return ", ".join(parts)


def _failure(result: BatchResult, lines: Mapping[str, int]) -> str:
    line = lines.get(result["taskId"])
    words: list[Any] = [result["taskId"], None if line is None else f"(line {line})"]
    words += [clean(result["name"]) if result["name"] else None, (result["outcome"] or "").replace("_", " ")]
    if result["exitCode"]:
        words.append(f"with exit code {result['exitCode']}")
    if result["signal"]:
        words.append(f"by {clean(result['signal'])}")
    if result["error"]:
        words.append(f"({clean(result['error'])})")
    return " ".join(word for word in words if word)
