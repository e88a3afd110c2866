"""Carries out steps with httpx.AsyncClient: what blocking.py does, awaited. This module alone needs asyncio, so it is
loaded when AsyncClient is asked for, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import TypeVar

import httpx

from task_runner.client import wire
from task_runner.client.link import Link
from task_runner.client.steps import Answer, Awaiting, Emit, Flow, Open, Pause, Plan, Read, Send, Step
from task_runner.errors import TaskRunnerError

T = TypeVar("T")


class Opened:
    """The response that a flow has open."""

    def __init__(self) -> None:
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None

    def take(self, response: httpx.Response) -> None:
        self._response, self._chunks = response, response.aiter_raw()

    async def read(self) -> bytes | None:
        assert self._chunks is not None
        return await anext(self._chunks, None)

    async def close(self) -> None:
        if self._response is not None:
            response, self._response = self._response, None
            await response.aclose()


class Driver:
    """The way to one daemon, for the tasks of one event loop."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._http: httpx.AsyncClient | None = None

    async def close(self) -> None:
        if self._http is not None:
            http, self._http = self._http, None
            await http.aclose()

    async def perform(self, plan: Plan[T]) -> T:
        """Carry out a plan; returns its value."""
        opened = Opened()
        try:
            step = next(plan)
            while True:
                try:
                    result = await self._do(step, opened)
                except TaskRunnerError as error:
                    step = plan.throw(error)
                else:
                    step = plan.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            plan.close()
            await opened.close()

    async def iterate(self, flow: Flow[T]) -> AsyncGenerator[T]:
        """Carry out a flow; yields what it emits, until it ends."""
        opened = Opened()
        try:
            step = next(flow)
            while True:
                if isinstance(step, Emit):
                    yield step.value
                    step = flow.send(None)
                    continue
                try:
                    result = await self._do(step, opened)
                except TaskRunnerError as error:
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration:
            return
        finally:
            flow.close()
            await opened.close()

    async def _do(self, step: Step, opened: Opened) -> Answer | bytes | None:
        if isinstance(step, Pause):
            await asyncio.sleep(step.seconds)
            return None
        with wire.faults(self._link):
            if isinstance(step, Read):
                return await opened.read()
            http = self._http or self._open()
            request = wire.request(http, self._link, step.call)
            if isinstance(step, Send):
                response = await http.send(request)
                return wire.answer(response, response.content)
            assert isinstance(step, Open)
            await opened.close()
            response = await http.send(request, stream=True)
            opened.take(response)
            return wire.answer(response, b"" if response.is_success else await response.aread())

    def _open(self) -> httpx.AsyncClient:
        socket = wire.socket(self._link)
        transport = httpx.AsyncHTTPTransport(**socket) if socket else None
        self._http = httpx.AsyncClient(transport=transport, **wire.options(self._link))
        return self._http


class AwaitingCore(Awaiting):
    """What all clients that are awaited have."""

    _driver: Driver

    async def _perform(self, plan: Plan[T]) -> T:
        return await self._driver.perform(plan)

    def _iterate(self, flow: Flow[T]) -> AsyncGenerator[T]:
        return self._driver.iterate(flow)
