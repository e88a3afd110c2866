"""Carries out steps with httpx.Client, one after the other. httpx is imported when the first request is sent."""

from __future__ import annotations

import threading
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

from task_runner.client.errors import ConnectionFailed
from task_runner.client.link import Link
from task_runner.client.steps import Answer, Blocking, Emit, Flow, Open, Pause, Plan, Read, Send, Step
from task_runner.errors import TaskRunnerError

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")


class Opened:
    """The response that a flow has open. Another thread may cut it off, at any time and for good."""

    def __init__(self) -> None:
        self._response: httpx.Response | None = None
        self._chunks: Any = None
        self.cut = threading.Event()

    def take(self, response: httpx.Response) -> None:
        self._response, self._chunks = response, response.iter_raw()
        if self.cut.is_set():  # by then it found nothing here
            raise ConnectionFailed("it was cut off")

    def read(self) -> bytes | None:
        found: bytes | None = next(self._chunks, None)
        return found

    def close(self) -> None:
        if self._response is not None:
            self._response.close()
            self._response = None

    def cut_off(self) -> None:
        """Let the flow end where it is: neither a read nor a pause is waited for."""
        import socket

        self.cut.set()
        response = self._response
        if response is not None and (stream := response.extensions.get("network_stream")) is not None:
            try:
                # to close it would leave the thread that reads from it waiting
                stream.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has gone by itself


class Driver:
    """The way to one daemon; several threads may use it at once."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._opening = threading.Lock()
        self._http: httpx.Client | None = None

    def close(self) -> None:
        with self._opening:
            if self._http is not None:
                self._http.close()
                self._http = None

    def perform(self, plan: Plan[T]) -> T:
        """Carry out a plan; returns its value."""
        opened = Opened()
        try:
            step = next(plan)
            while True:
                try:
                    result = self._do(step, opened)
                except TaskRunnerError as error:
                    step = plan.throw(error)
                else:
                    step = plan.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            plan.close()
            opened.close()

    def iterate(self, flow: Flow[T], opened: Opened | None = None) -> Generator[T]:
        """Carry out a flow; yields what it emits, until it ends or is cut off."""
        opened = opened or Opened()
        try:
            step = next(flow)
            while not opened.cut.is_set():
                if isinstance(step, Emit):
                    yield step.value
                    step = flow.send(None)
                    continue
                try:
                    result = self._do(step, opened)
                except TaskRunnerError as error:
                    if opened.cut.is_set():
                        return  # that was we, and it is no outage
                    step = flow.throw(error)
                else:
                    step = flow.send(result)
        except StopIteration:
            return
        finally:
            flow.close()
            opened.close()

    def _do(self, step: Step, opened: Opened) -> Answer | bytes | None:
        if isinstance(step, Pause):
            if opened.cut.wait(step.seconds):
                raise ConnectionFailed("it was cut off")
            return None
        from task_runner.client import wire

        with wire.faults(self._link):
            if isinstance(step, Read):
                return opened.read()
            http = self._http or self._open()
            request = wire.request(http, self._link, step.call)
            if isinstance(step, Send):
                response = http.send(request)
                return wire.answer(response, response.content)
            assert isinstance(step, Open)
            opened.close()
            response = http.send(request, stream=True)
            opened.take(response)
            return wire.answer(response, b"" if response.is_success else response.read())

    def _open(self) -> httpx.Client:
        import httpx

        from task_runner.client import wire

        with self._opening:
            if self._http is None:
                socket = wire.socket(self._link)
                transport = httpx.HTTPTransport(**socket) if socket else None
                self._http = httpx.Client(transport=transport, **wire.options(self._link))
            return self._http


class BlockingCore(Blocking):
    """What all clients that block have."""

    _driver: Driver

    def _perform(self, plan: Plan[T]) -> T:
        return self._driver.perform(plan)

    def _iterate(self, flow: Flow[T]) -> Generator[T]:
        return self._driver.iterate(flow)
