"""Both clients for one suite, and a proxy that cuts their connections."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

from task_runner.client import AsyncClient, Client

KINDS = ("sync", "async")


class Loop:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self._thread.start()

    def run(self, awaitable: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(awaitable, self.loop).result()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Disguised:
    """An AsyncClient that is used as if it were a Client."""

    def __init__(self, real: Any, loop: Loop) -> None:
        self._real, self._loop = real, loop

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._real, name)
        if name == "files":
            return Disguised(found, self._loop)
        if not callable(found):
            return found

        def method(*args: Any, **options: Any) -> Any:
            made = found(*args, **options)
            return self._iterate(made) if hasattr(made, "__anext__") else self._loop.run(made)

        return method

    def _iterate(self, made: Any) -> Iterator[Any]:
        async def following() -> tuple[bool, Any]:
            try:
                return True, await anext(made)
            except StopAsyncIteration:
                return False, None

        async def close() -> None:
            await made.aclose()

        try:
            while (found := self._loop.run(following()))[0]:
                yield found[1]
        finally:
            self._loop.run(close())


@contextlib.contextmanager
def client_of(kind: str, url: str, token: str | None, **options: Any) -> Iterator[Any]:
    """A client of this kind."""
    if kind == "sync":
        with Client(url, token, **options) as client:
            yield client
        return
    loop = Loop()
    try:
        real = AsyncClient(url, token, **options)
        try:
            yield Disguised(real, loop)
        finally:
            loop.run(real.aclose())
    finally:
        loop.close()


class Proxy:
    """Passes bytes on between clients and a server, until it is told otherwise.

    ``budgets``: how many bytes of the server's answers each connection lets through before it is cut; None: all.
    ``hold``: seconds by which the answers of a connection are late.
    """

    def __init__(self, url: str, budgets: Callable[[int], int | None] = lambda _n: None,
                 hold: Callable[[int], float] = lambda _n: 0.0) -> None:
        host, _, port = url.removeprefix("http://").partition(":")
        self._target = (host, int(port))
        self._budgets, self._hold = budgets, hold
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        #: bytes that clients have been sent
        self.answered = 0
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        _cut(self._listener)
        self._listener.close()
        self._threads[0].join()
        for each in self._open:
            _cut(each)
        for thread in self._threads:
            thread.join()
        for each in self._open:
            each.close()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            number, self.connections = self.connections, self.connections + 1
            far = socket.create_connection(self._target)
            self._open += [near, far]
            for work in (self._requests, self._answers):
                thread = threading.Thread(target=work, args=(near, far, number))
                self._threads.append(thread)
                thread.start()

    def _requests(self, near: socket.socket, far: socket.socket, _number: int) -> None:
        with contextlib.suppress(OSError):
            while data := near.recv(65536):
                far.sendall(data)
        _cut(far)

    def _answers(self, near: socket.socket, far: socket.socket, number: int) -> None:
        left, late = self._budgets(number), self._hold(number)
        with contextlib.suppress(OSError):
            while (left is None or left > 0) and (data := far.recv(65536)):
                time.sleep(late)
                near.sendall(data if left is None else data[:left])
                self.answered += len(data)
                left = None if left is None else left - len(data)
            if left is not None and left <= 0 and self._budgets(number) == 0:
                far.recv(1)  # the server has answered, and nobody hears of it
        _cut(near)
        _cut(far)


def _cut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
