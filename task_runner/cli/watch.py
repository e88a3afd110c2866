"""`task-runner list --watch`: the list as it changes, on the whole terminal or line by line."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any

import click
from rich.console import Group
from rich.text import Text

from task_runner.cli.describe import COLUMNS, colour, row
from task_runner.cli.ear import Contact, Ear, Worker
from task_runner.cli.edge import PATIENCE, Session
from task_runner.cli.exitcode import OK
from task_runner.cli.grid import Column, fitted, grid
from task_runner.cli.output import clean, emit, now, paint
from task_runner.cli.screen import Screen, is_screen
from task_runner.client import ApiError, Client, Event, Task
from task_runner.errors import TaskRunnerError
from task_runner.model.state import ACTIVE

#: seconds between two looks when nothing is heard: a removal has no event, nor has a change of what a task waits for
REFRESH = 2.0
#: between two looks at least, however much is heard
BREATH = 0.25
#: tasks asked for at once
_PAGE = 1000
_RANKS = {"ENTITY": 4, "AGE": 3, "EXIT": 2, "RUNTIME": 1}
_TABLE = [Column(title, _RANKS.get(title, 0)) for title in COLUMNS]
_ACTIVE = tuple(state.value for state in ACTIVE)
NO_CONTACT = "no contact with the daemon, trying again; tasks run on meanwhile"

Filters = dict[str, Any]


def watch(session: Session, filters: Filters, limit: int, as_json: bool) -> int:
    """Show the list until the person has seen enough; returns the exit code."""
    if as_json or not is_screen():
        return _print_changes(session, filters, as_json)
    return _Watch(session, filters, limit).run()


# -- the whole terminal


class _Watch:
    """What is known, by the looks of one thread, which another one wakes when it hears of a change."""

    def __init__(self, session: Session, filters: Filters, limit: int) -> None:
        self._session, self._filters, self._limit = session, filters, limit
        self._tasks: list[Task] = []
        self._more, self._height = False, 0
        self._contact = Contact()
        self._heard = threading.Event()
        self._screen = Screen(self._draw, lambda _key: None)

    def run(self) -> int:
        # it is looked at: one who has seen enough presses q
        with self._session.client(patience=float("inf"), on_outage=self._lose) as client:
            screen = self._screen
            self._look(client)  # what is wrong with the request is said before there is a screen
            ear = Ear(client, self._hear, screen.fail)
            worker = Worker(lambda ended: self._refresh(client, ended), screen.fail, self._heard.set)
            with screen, ear, worker:
                return screen.run()

    def _hear(self, _sign: Event | None) -> None:
        self._heard.set()

    def _lose(self, _error: TaskRunnerError) -> None:
        self._contact.lose()
        self._screen.wake()

    def _refresh(self, client: Client, ended: threading.Event) -> None:
        while not ended.is_set():
            self._heard.wait(REFRESH)
            self._heard.clear()
            begun = self._contact.begin()
            self._look(client)
            if not self._contact.prove(begun):
                self._heard.set()  # it is looked again
            self._screen.wake()
            ended.wait(BREATH)

    def _look(self, client: Client) -> None:
        self._tasks, self._more = look(client, self._filters, self._limit, self._screen.height - 2)

    def _draw(self, width: int, height: int) -> Group:
        rows = max(0, height - 2)
        tasks = choose(self._tasks[::-1], [], rows)
        hidden = self._more or len(self._tasks) > len(tasks)
        if height != self._height:
            self._height = height
            self._heard.set()  # there is room for others, or for fewer
        moment = now()
        table = grid(_TABLE, [row(task, moment) for task in tasks], width)
        empty = [Text("")] * (rows - len(tasks))
        return Group(table, *empty, self._status(width, hidden))

    def _status(self, width: int, hidden: bool) -> Text:
        if not self._contact.there:
            return fitted(NO_CONTACT, width, "yellow")
        if not self._tasks:
            return fitted("no task matches — q: quit", width, "bright_black")
        return fitted("q: quit" + (" — there are more tasks than are shown" if hidden else ""), width, "bright_black")


def look(client: Client, filters: Filters, limit: int, lines: int) -> tuple[list[Task], bool]:
    """The tasks for so many lines, the newest last, and whether there are others."""
    rows = max(1, min(limit, lines))
    newest = list(islice(client.list(**filters, order="desc", limit=min(rows + 1, _PAGE)), rows + 1))
    if len(newest) <= rows:
        return newest[::-1], False
    states = [state for state in (filters["state"] or ",".join(_ACTIVE)).split(",") if state in _ACTIVE]
    active: list[Task] = []
    if states and not filters["outcome"]:
        wanted = {**filters, "state": ",".join(states), "order": "desc", "limit": min(rows, _PAGE)}
        active = list(islice(client.list(**wanted), rows))
    return choose(newest[:rows], active, rows), True


def choose(newest: Sequence[Task], active: Sequence[Task], rows: int) -> list[Task]:
    """Of the newest tasks and of the newest that are active, both newest first, those to show, the newest last: what
    is active comes before what is newer and is not."""
    known = {task["taskId"] for task in newest}
    older = [task for task in active if task["taskId"] not in known]
    places = max(0, rows - len(older))
    live = [task for task in newest if task["state"] in _ACTIVE]
    kept = {task["taskId"] for task in [*live, *(task for task in newest if task["state"] not in _ACTIVE)][:places]}
    return [*(task for task in newest if task["taskId"] in kept), *older][:rows][::-1]


# -- line by line


def _print_changes(session: Session, filters: Filters, as_json: bool) -> int:
    with session.client(patience=PATIENCE) as client:
        matches = _matcher(client, filters)
        for event in client.iter_events():
            if matches(event):
                emit(event) if as_json else click.echo(change(event))
    return OK


def change(event: Event) -> str:
    """A line about one change."""
    found = event["outcome"] or event["state"]
    said = [paint(found + ("!" if event["stalled"] else ""), "red" if event["stalled"] else colour(found))]
    if event["outcome"] and (event["exitCode"] or event["signal"]):
        said.append(f"exit code {event['exitCode']}" if event["exitCode"] else f"signal {clean(event['signal'] or '')}")
    progress = event["progress"] if not event["outcome"] else None
    if progress and progress["percent"] is not None:
        said.append(f"{progress['percent']:.0f}%")
    named = [clean(each) for each in (event["name"], event["entity"] and f"({event['entity']})") if each]
    message = [f"[{clean(progress['message'])}]"] if progress and progress["message"] else []
    return "  ".join([event["at"], event["taskId"], " ".join([*said, *named, *message])])


def _matcher(client: Client, filters: Filters) -> Callable[[Event], bool]:
    """Whether a change is one of those that are asked for. What no event says the task itself is asked for, once."""
    states, outcomes = (filters[name].split(",") if filters[name] else None for name in ("state", "outcome"))
    wanted: dict[str, bool] = {}

    def about(task_id: str) -> bool:
        if not (filters["tag"] or filters["origin"] or filters["q"]):
            return True
        if task_id not in wanted:
            try:
                wanted[task_id] = _is_meant(client.get(task_id), filters)
            except ApiError as error:
                if error.status != 404:
                    raise
                return False  # it has been removed meanwhile
        return wanted[task_id]

    def matches(event: Event) -> bool:
        if (states and event["state"] not in states) or (outcomes and event["outcome"] not in outcomes):
            return False
        if filters["stalled"] and not event["stalled"]:
            return False
        if any(filters[name] not in (None, event[name]) for name in ("batch", "entity")):
            return False
        return about(event["taskId"])

    return matches


def _is_meant(task: Task, filters: Filters) -> bool:
    """As the daemon filters by what never changes."""
    tags = [each.partition("=") for each in filters["tag"]]
    if any(task["tags"].get(name) != value for name, _, value in tags):
        return False
    if filters["origin"] not in (None, task["origin"]):
        return False
    spec = json.dumps(task["spec"], ensure_ascii=False, separators=(",", ":"))
    return not filters["q"] or fold(filters["q"]) in fold(f"{task['taskId']} {task['name'] or ''}\n{spec}")


def fold(words: str) -> str:
    """A to Z in lower case, and no other letter, as the daemon compares."""
    return words.encode(errors="replace").lower().decode()
