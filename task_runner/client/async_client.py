"""A client of `/v1` for asyncio. What it may ask stands in api.py, and is what Client may ask, too."""

from __future__ import annotations

from typing import Self

from task_runner.client.api import Api
from task_runner.client.awaiting import AwaitingCore, Driver
from task_runner.client.files import Files
from task_runner.client.link import Link


class AsyncClient(Api, AwaitingCore):
    __doc__ = (
        f"{Api.__doc__}\n    The tasks of one event loop may use it. Its methods are awaited; `iter_…` and `list`"
        " return asynchronous generators: `async for`."
    )

    def _connect(self) -> None:
        self._driver = Driver(self._link)

    @property
    def files(self) -> AsyncClientFiles:
        """What tasks have in their working directories."""
        return AsyncClientFiles(self._link, self._driver)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._driver.close()


class AsyncClientFiles(Files, AwaitingCore):
    """The files of tasks."""

    def __init__(self, link: Link, driver: Driver) -> None:
        self._link, self._driver = link, driver
