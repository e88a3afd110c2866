"""`task-runner top`: what the tasks that run use."""

from __future__ import annotations

import threading
import time
from dataclasses import asdict
from typing import Any

import click

from task_runner.cli.edge import Session, pass_session
from task_runner.cli.output import Cell, clean, duration, emit, json_option, now, seconds_between, size, table
from task_runner.cli.rates import SORTS, NodeUse, TaskRate, node_use, ordered, task_rates
from task_runner.client import ApiError, Client, Event, Task
from task_runner.client.records import History, TasksUse
from task_runner.errors import TaskRunnerError

_TITLES = ("ID", "STATE", "CPU", "MEMORY", "OUTPUT/s", "PROCS", "RUNTIME", "TASK")
_KEYS = {"c": "cpu", "m": "memory", "o": "output", "i": "id"}


@click.command()
@click.option("--sort", "-s", type=click.Choice(SORTS), default="cpu", show_default=True, help="What comes first.")
@click.option(
    "--interval",
    "-i",
    type=click.FloatRange(min=1.0),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@click.option("--once", is_flag=True, help="Print one table and end.")
@json_option
@pass_session
@click.pass_context
def top(ctx: click.Context, session: Session, sort: str, interval: float, once: bool, as_json: bool) -> None:
    """Show what the tasks that run use: CPU, memory, output.

    CPU is in percent of one processor, over the interval. Keys: c, m, o, i sort by CPU, memory, output, id; q ends it.
    Where the output is no terminal, one table is printed, as with --once. What is not known is a dash.
    """
    from task_runner.cli.screen import is_screen

    if as_json and not once:
        raise click.UsageError("--json goes with --once")
    if once or not is_screen():
        with session.client() as client:
            _print_once(client, sort, interval, as_json)
        return
    ctx.exit(_Top(session, sort, interval).run())


def _print_once(client: Client, sort: str, interval: float, as_json: bool) -> None:
    before = client.node_tasks()
    time.sleep(interval)  # a rate lies between two looks
    while (found := client.node_tasks())["monotonicSeconds"] == before["monotonicSeconds"]:
        time.sleep(0.1)  # the daemon looks once a second
    node, rates = node_use(client.node(), client.history(1)), task_rates(before, found, sort)
    details = Details()
    details.learn(client, rates)
    if as_json:
        emit(_as_json(found["at"], node, rates, details))
        return
    click.echo(node_line(node))
    table(_TITLES, (row(each, details.of(each)) for each in rates))


def _as_json(at: str, node: NodeUse, rates: list[TaskRate], details: Details) -> dict[str, Any]:
    tasks = []
    for each in rates:
        known = {_camel(name): value for name, value in asdict(each).items()}
        task = details.of(each)
        said = {name: task.get(name) if task else None for name in ("state", "attempt", "name", "startedAt")}
        tasks.append({**known, **said})
    return {"at": at, "node": {_camel(name): value for name, value in asdict(node).items()}, "tasks": tasks}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.title() for word in rest)


class Details:
    """What tasks are, asked for once and then after each change."""

    def __init__(self) -> None:
        self._known: dict[str, Task] = {}
        self._changed = set[str]()

    def of(self, rate: TaskRate) -> Task | None:
        return self._known.get(rate.task_id)

    def forget(self, task_id: str) -> None:
        """It has changed. For any thread."""
        self._changed.add(task_id)

    def learn(self, client: Client, rates: list[TaskRate]) -> None:
        """Ask for those that are not known, and forget those that are not shown."""
        found = {}
        changed, self._changed = self._changed, set()
        for each in rates:
            task = self._known.get(each.task_id)
            try:
                task = client.get(each.task_id) if task is None or each.task_id in changed else task
            except ApiError as error:
                if error.status != 404:  # it has been removed meanwhile
                    raise
            if task is not None:
                found[each.task_id] = task
        self._known = found


def node_line(node: NodeUse) -> str:
    """The machine and the daemon in a line."""
    cpu = "-" if node.cpu_percent is None else f"{node.cpu_percent:.0f}%"
    parts = [
        f"CPU {cpu}",
        f"memory {size(node.used_bytes)} of {size(node.memory_bytes)}",
        f"running {node.running}" + ("" if node.most_running is None else f" of {node.most_running}"),
        f"waiting {node.waiting}",
        *(["draining"] if node.draining else []),
    ]
    return "  ".join(parts)


def row(rate: TaskRate, task: Task | None) -> list[Cell]:
    from task_runner.cli.describe import coloured_word, title

    runtime = seconds_between(task["startedAt"], None, now()) if task else None
    return [
        (rate.task_id, None),
        coloured_word(task) if task else ("-", None),
        ("-" if rate.cpu_percent is None else f"{rate.cpu_percent:.1f}%", None),
        (size(rate.rss_bytes), None),
        (size(rate.output_rate), None),
        ("-" if rate.processes is None else str(rate.processes), None),
        (duration(runtime), None),
        (title(task) if task else "-", None),
    ]


class _Top:
    """On the whole terminal. One thread looks, the other one draws."""

    def __init__(self, session: Session, sort: str, interval: float) -> None:
        from task_runner.cli.ear import Contact
        from task_runner.cli.screen import Screen

        self._session, self._sort, self._interval = session, sort, interval
        self._node: NodeUse | None = None
        self._history: History | None = None
        self._sampled = 0.0
        self._rates: list[TaskRate] = []
        self._details = Details()
        self._contact = Contact()
        self._again = threading.Event()
        self._screen = Screen(self._draw, self._press)

    def run(self) -> int:
        from task_runner.cli.ear import Ear, Worker

        with self._session.client(patience=float("inf"), on_outage=self._lose) as client:
            first = self._take(client, None)  # what is wrong with the request is said before there is a screen
            work = Worker(lambda ended: self._refresh(client, ended, first), self._screen.fail, self._again.set)
            with self._screen, Ear(client, self._hear, self._screen.fail), work:
                return self._screen.run()

    def _hear(self, sign: Event | None) -> None:
        if sign is not None:
            self._details.forget(sign["taskId"])

    def _press(self, key: str) -> None:
        if key in _KEYS:
            self._sort = _KEYS[key]
            self._rates = ordered(self._rates, self._sort)
            self._again.set()  # what comes to the top may not be known yet
            self._screen.wake()

    def _lose(self, _error: TaskRunnerError) -> None:
        self._contact.lose()
        self._screen.wake()

    def _refresh(self, client: Client, ended: threading.Event, before: TasksUse) -> None:
        while not ended.is_set():
            if self._again.wait(self._interval):
                self._again.clear()
                self._details.learn(client, self._rates[: self._screen.height])
            else:
                begun = self._contact.begin()
                before = self._take(client, before)
                self._contact.prove(begun)
            self._screen.wake()

    def _take(self, client: Client, before: TasksUse | None) -> TasksUse:
        found = client.node_tasks()
        if before is not None and found["monotonicSeconds"] == before["monotonicSeconds"]:
            return before  # the daemon looks once a second, and this was the same look
        rates = task_rates(before, found, self._sort)
        self._details.learn(client, rates[: self._screen.height])
        if self._history is None or time.monotonic() - self._sampled > self._history["stepSeconds"]:
            self._history, self._sampled = client.history(1), time.monotonic()
        self._node, self._rates = node_use(client.node(), self._history), rates
        return found

    def _draw(self, width: int, height: int) -> Any:
        from rich.console import Group
        from rich.text import Text

        from task_runner.cli.grid import Column, fitted, grid
        from task_runner.cli.watch import NO_CONTACT

        ranks = {"PROCS": 4, "OUTPUT/s": 3, "RUNTIME": 2, "STATE": 5}
        columns = [Column(name, ranks.get(name, 0), right=name in _TITLES[2:7]) for name in _TITLES]
        lines = max(0, height - 3)
        shown = [row(each, self._details.of(each)) for each in self._rates[:lines]]
        words = f"sorted by {self._sort} — c m o i: sort, q: quit"
        hidden = len(self._rates) - len(shown)
        foot = fitted(words + (f" — {hidden} more" if hidden else ""), width, "bright_black")
        if not self._contact.there:
            foot = fitted(NO_CONTACT, width, "yellow")
        head = fitted(clean(node_line(self._node)) if self._node else "", width, None)
        return Group(head, grid(columns, shown, width), *[Text("")] * (lines - len(shown)), foot)
