"""`task-runner explain`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from task_runner.cli.edge import Session, pass_session
from task_runner.cli.output import Cell, clean, duration, emit, json_option, size, table
from task_runner.cli.suggest import TASK

_COLUMNS = ("PID", "STATE", "WAITS IN", "CPU", "MEMORY", "AGE", "COMMAND")


@click.command()
@click.argument("task_id", metavar="ID", shell_complete=TASK)
@json_option
@pass_session
def explain(session: Session, task_id: str, as_json: bool) -> None:
    """Say why a task waits, what it does just now, or how it ended."""
    with session.client() as client:
        found = client.explain(task_id)
    if as_json:
        emit(found)
        return
    for sentence in found["summary"]:
        click.echo(clean(sentence))
    if found.get("processes"):
        click.echo()
        table(_COLUMNS, _rows(found["processes"]))
        if (more := found["processCount"] - len(found["processes"])) > 0:
            click.echo(f"and {more} more")
    for each in found.get("lastOutput") or []:
        if each["text"]:
            click.echo(f"\nThe end of its {each['stream']}:")
            for line in each["text"].splitlines():
                click.echo(f"  {clean(line)}")


def _rows(processes: list[dict[str, Any]]) -> Iterator[list[Cell]]:
    """Children stand further to the right than their parents."""
    depths: dict[int, int] = {}
    for each in processes:
        depth = depths[each["pid"]] = depths.get(each["ppid"], -1) + 1
        command = "(the runner)" if each["runner"] else clean(each["command"])
        yield [
            (str(each["pid"]), None),
            (each["state"], {"D": "red", "R": "green", "Z": "yellow", "T": "yellow"}.get(each["state"])),
            (clean(each["waitChannel"] or "-"), None),
            (duration(each["cpuSeconds"]), None),
            (size(each["rssBytes"]), None),
            (duration(each["ageSeconds"]), None),
            ("  " * depth + command, None),
        ]
