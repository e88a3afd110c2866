"""How far several tasks are, as bars on standard error."""

from __future__ import annotations

from collections.abc import Collection
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from task_runner.cli.describe import title
from task_runner.cli.grid import text
from task_runner.cli.output import clean
from task_runner.client import Task
from task_runner.client.records import is_over

#: bars of single tasks at most
MOST = 8


class Bars:
    """One for all of them, and one for each of those that say how far they are."""

    def __init__(self) -> None:
        console = Console(stderr=True, markup=False, highlight=False, emoji=False)
        words = TextColumn("{task.description}", markup=False)
        percent = TextColumn("{task.percentage:>3.0f}%", markup=False)
        columns = (words, BarColumn(bar_width=None), percent, TimeElapsedColumn())
        self._progress = Progress(
            *columns, console=console, transient=True, auto_refresh=False, redirect_stdout=False, redirect_stderr=False,
            expand=True,
        )
        self._all = self._progress.add_task("0 over", total=None)
        self._single: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._progress.stop()

    def say(self, words: str) -> None:
        """A line above the bars, for any thread."""
        self._progress.console.print(text(f"task-runner: {clean(words)}"), soft_wrap=True)

    def show(self, tasks: Collection[Task]) -> None:
        """Draw them as they are now."""
        over = [task for task in tasks if is_over(task)]
        good = sum(1 for task in over if task["outcome"] == "succeeded")
        words = f"{len(over)} of {len(tasks)} over: {good} ok, {len(over) - good} not"
        self._progress.update(self._all, description=words, completed=len(over), total=len(tasks))
        lines = max(0, self._progress.console.size.height - 2)
        telling = {task["taskId"]: task for task in tasks if _percent(task) is not None}
        shown = dict(list(telling.items())[: min(MOST, lines)])
        for task_id in self._single.keys() - shown.keys():
            self._progress.remove_task(self._single.pop(task_id))
        for task_id, task in shown.items():
            if task_id not in self._single:
                self._single[task_id] = self._progress.add_task(_label(task), total=100)
            self._progress.update(self._single[task_id], completed=_percent(task))
        self._progress.refresh()


def _percent(task: Task) -> float | None:
    return None if is_over(task) or not task["progress"] else task["progress"]["percent"]


def _label(task: Task) -> str:
    line = text(title(task))
    line.truncate(24, overflow="ellipsis")
    return line.plain
