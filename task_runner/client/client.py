"""A client of `/v1` that blocks. What it may ask stands in api.py, and is what AsyncClient may ask, too."""

from __future__ import annotations

from collections.abc import Generator
from typing import Self

from task_runner.client.api import Api
from task_runner.client.blocking import BlockingCore, Driver, Opened
from task_runner.client.core import task_of
from task_runner.client.files import Files
from task_runner.client.link import Link
from task_runner.client.records import Event
from task_runner.client.tasks import TaskRef


class Client(Api, BlockingCore):
    __doc__ = f"{Api.__doc__}\n    Several threads may use one client at once. `iter_…` and `list` return generators."

    def _connect(self) -> None:
        self._driver = Driver(self._link)

    @property
    def files(self) -> ClientFiles:
        """What tasks have in their working directories."""
        return ClientFiles(self._link, self._driver)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def hear(self, stream: Opened, task: TaskRef | None = None) -> Generator[Event | None]:
        """All new events, until the stream is cut off; None, when it has been opened and at other signs of life.
        With ``task``: all events of that, also until it is over."""
        return self._driver.iterate(self._signs(None if task is None else task_of(task), None), stream)

    def close(self) -> None:
        """Let go of the connections."""
        self._driver.close()


class ClientFiles(Files, BlockingCore):
    """The files of tasks."""

    def __init__(self, link: Link, driver: Driver) -> None:
        self._link, self._driver = link, driver
