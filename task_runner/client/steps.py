"""What a client does, without doing it: each of its methods is written once, as a generator of steps.

Rule 1: a method neither sends nor sleeps. It yields what is to be done and is sent what came of it; an error of the
connection is thrown into it. So it holds for the client that blocks and for the one that awaits, and their two drivers
(blocking.py, awaiting.py) know nothing of what is asked.
Rule 2: a plan ends with a value, a flow emits many. A plan goes on within another by `yield from other.of(client, …)`.
Rule 3: one response is open in a flow at a time. `Open` closes the one before; the end of the flow closes the last.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Mapping
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar, overload

from task_runner.client.calls import Call

P = ParamSpec("P")
T = TypeVar("T")


# plain classes: the command line loads them at every start, and six dataclasses take longer than all the rest of this


class Send:
    """Send a call; gives its Answer. Raises ConnectionFailed."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call = call


class Open:
    """Send a call; gives its Answer, the body of which is left to be read unless it is an error."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call = call


class Read:
    """Gives the next bytes of what is open; None at its end. Raises ConnectionFailed."""

    __slots__ = ()


class Pause:
    """Let time pass."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class Emit(Generic[T]):
    """Hand a value to whoever iterates."""

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value


class Answer:
    """What came back. The names of headers are in lower case."""

    __slots__ = ("status", "headers", "body")

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body


Step = Send | Open | Read | Pause
Plan = Generator[Step, Any, T]
Flow = Generator[Step | Emit[T], Any, None]


class Blocking:
    """A client whose methods return when it is done."""

    def _perform(self, plan: Plan[T]) -> T:
        raise NotImplementedError

    def _iterate(self, flow: Flow[T]) -> Generator[T]:
        raise NotImplementedError


class Awaiting:
    """A client whose methods are awaited."""

    async def _perform(self, plan: Plan[T]) -> T:
        raise NotImplementedError

    def _iterate(self, flow: Flow[T]) -> AsyncGenerator[T]:
        raise NotImplementedError


class plan(Generic[P, T]):  # noqa: N801  a decorator
    """Makes a method of a plan: it returns the plan's value, or is awaited for it."""

    def __init__(self, make: Callable[Concatenate[Any, P], Plan[T]]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def of(self, client: Any, *args: P.args, **kwargs: P.kwargs) -> Plan[T]:
        """The plan itself, to go on within another."""
        return self._make(client, *args, **kwargs)

    @overload
    def __get__(self, client: None, owner: Any) -> Self: ...
    @overload
    def __get__(self, client: Blocking, owner: Any) -> Callable[P, T]: ...
    @overload
    def __get__(self, client: Awaiting, owner: Any) -> Callable[P, Coroutine[Any, Any, T]]: ...

    def __get__(self, client: Any, owner: Any) -> Any:
        if client is None:
            return self

        @functools.wraps(self._make)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client._perform(self._make(client, *args, **kwargs))

        return method


class flow(Generic[P, T]):  # noqa: N801  a decorator
    """Makes a method of a flow: it returns a generator of what is emitted, or an asynchronous one."""

    def __init__(self, make: Callable[Concatenate[Any, P], Flow[T]]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def of(self, client: Any, *args: P.args, **kwargs: P.kwargs) -> Flow[T]:
        """The flow itself, to go on within another."""
        return self._make(client, *args, **kwargs)

    @overload
    def __get__(self, client: None, owner: Any) -> Self: ...
    @overload
    def __get__(self, client: Blocking, owner: Any) -> Callable[P, Generator[T]]: ...
    @overload
    def __get__(self, client: Awaiting, owner: Any) -> Callable[P, AsyncGenerator[T]]: ...

    def __get__(self, client: Any, owner: Any) -> Any:
        if client is None:
            return self

        @functools.wraps(self._make)
        def method(*args: P.args, **kwargs: P.kwargs) -> Any:
            return client._iterate(self._make(client, *args, **kwargs))

        return method
