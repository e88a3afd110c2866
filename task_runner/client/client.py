"""A client of `/v1`, blocking. What it sends stands in `calls`: one that awaits would differ in this file alone.

A daemon that has never answered is not waited for. One that has answered and goes away, as it does when it is
upgraded, is waited for ``patience`` seconds, where the request can be repeated: its tasks run on meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Self, cast

from task_runner.client import calls
from task_runner.client.calls import Call
from task_runner.client.discovery import Address, is_local, split
from task_runner.client.errors import ApiError, ConnectionFailed, Silent
from task_runner.client.patience import Patience
from task_runner.client.records import Node, Task, is_over
from task_runner.errors import InvalidRequest, TaskRunnerError

if TYPE_CHECKING:
    import httpx

#: seconds without a byte after which a stream is opened anew: the other end may be gone without a word
SILENCE = 60.0
#: seconds between two looks at a task that the daemon did not wait for
BREATH = 0.05


class Client:
    """One daemon. Not to be used by two threads at once."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        patience: float = 0.0,
        on_outage: Callable[[TaskRunnerError], None] | None = None,
        hint: str | None = None,
    ) -> None:
        self.url = url
        self.local = is_local(url)
        self._token = token
        self._hint = hint
        self._patience = Patience(patience, on_outage)
        self._met = False
        self._opened: httpx.Client | None = None

    @classmethod
    def at(cls, address: Address, **options: Any) -> Client:
        """The client of an address that was found."""
        return cls(address.url, address.token, hint=address.hint, **options)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    # -- tasks

    def submit(self, body: Mapping[str, Any], idempotency_key: str | None = None) -> Task:
        """Hand in a task. With a key it is safe to call this again: the same key gives the same task."""
        return self._task(calls.submit(body, idempotency_key))

    def get(self, task_id: str, wait: float | None = None) -> Task:
        """The task now, or as soon as it is over if that is within ``wait`` seconds."""
        return self._task(calls.get(task_id, wait))

    def wait(self, task_id: str, timeout: float | None = None) -> Task:
        """The task when it is over, or after ``timeout`` seconds as it is then."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            left = calls.LONGEST_WAIT if end is None else max(0.0, end - time.monotonic())
            asked = time.monotonic()
            task = self.get(task_id, min(left, calls.LONGEST_WAIT))
            if is_over(task) or (end is not None and time.monotonic() >= end):
                return task
            if time.monotonic() - asked < BREATH:
                time.sleep(BREATH)  # a daemon about to go does not wait with us

    def list(self, **filters: str | float | bool | Iterable[str] | None) -> Iterator[Task]:
        """Tasks that match: state, outcome, tag, stalled, q, order. All pages; ``limit`` is of one."""
        call: Call | None = calls.listing(filters)
        while call is not None:
            response = self._send(call)
            page = _json(response)
            if not isinstance(page, list):
                raise _alien(self.url)
            yield from page
            link = response.links.get("next", {}).get("url")
            call = calls.following(link) if link else None

    def stop(
        self, task_id: str, signal: str | None = None, grace: float | None = None, wait: float | None = None
    ) -> Task:
        """Stop a task; returns it as it is after a moment, or after at most ``wait`` seconds."""
        return self._task(calls.stop(task_id, signal, grace, wait))

    def pause(self, task_id: str) -> Task:
        return self._task(calls.pause(task_id))

    def resume(self, task_id: str) -> Task:
        return self._task(calls.resume(task_id))

    def signal(self, task_id: str, name: str) -> Task:
        """Send a signal to the first process of the task's current action."""
        return self._task(calls.send_signal(task_id, name))

    def retry(self, task_id: str) -> Task:
        """Run a task that is over once more."""
        return self._task(calls.retry(task_id))

    def delete(self, task_id: str) -> None:
        """Forget a task; one that is active is stopped first."""
        self._send(calls.delete(task_id))

    def iter_output(
        self, task_id: str, offset: int = 0, follow: bool = False, tail: int | None = None
    ) -> Iterator[bytes]:
        """The output from a byte offset, or its last ``tail`` lines; with ``follow`` to the end of the task.

        It is that of the attempt which is the latest at the call. A connection that breaks is opened anew at
        the byte where it broke, so every byte comes once.
        """
        task = self.get(task_id)
        task_id, attempt, position = task["taskId"], task["attempt"], offset
        while True:
            # looked up before the stream is opened: what is over by then has written all it will
            over = not follow or is_over(task) or task["attempt"] != attempt
            call = calls.output(
                task_id, offset=position, tail=tail, attempt=attempt, follow=not over, timeout=SILENCE
            )
            answered = False
            try:
                with self._stream(call) as response:
                    answered = True
                    if tail is not None:
                        position, tail = int(response.headers.get("x-output-offset", 0)), None
                    for chunk in response.iter_raw():
                        position += len(chunk)
                        yield chunk
            except ConnectionFailed as error:
                if not (answered and isinstance(error, Silent)):  # a task may well have nothing to say
                    self._wait_out(error)
                continue
            if over:
                return
            time.sleep(BREATH)
            task = self.get(task_id)

    # -- the node

    def node(self) -> Node:
        return cast("Node", self._object(calls.node()))

    def drain(self) -> Node:
        """Start nothing new."""
        return cast("Node", self._object(calls.drain(True)))

    def undrain(self) -> Node:
        return cast("Node", self._object(calls.drain(False)))

    def health(self) -> dict[str, Any]:
        return self._object(calls.health())

    # -- sending

    def _task(self, call: Call) -> Task:
        body = self._object(call)
        if not isinstance(body.get("taskId"), str) or not isinstance(body.get("state"), str):
            raise _alien(self.url)
        return cast("Task", body)

    def _object(self, call: Call) -> dict[str, Any]:
        body = _json(self._send(call))
        if not isinstance(body, dict):
            raise _alien(self.url)
        return body

    def _send(self, call: Call) -> httpx.Response:
        """The answer, read to its end. Raises ApiError, ConnectionFailed."""
        while True:
            try:
                with self._stream(call) as response:
                    response.read()
                    return response
            except ConnectionFailed as error:
                if not call.repeatable:
                    raise
                self._wait_out(error)
            except ApiError as error:
                if error.status != 503 or not call.repeatable:
                    raise
                self._patience.spend(error)

    @contextmanager
    def _stream(self, call: Call) -> Iterator[httpx.Response]:
        """The answer, its body unread. Raises ApiError, ConnectionFailed."""
        import httpx

        try:
            request = self._http.build_request(
                call.method,
                call.path,
                params=tuple(call.query) or None,
                json=call.body,
                headers=call.headers,
                timeout=httpx.Timeout(call.timeout, connect=10.0),
            )
            response = self._http.send(request, stream=True)
            try:
                self._check(response)
                self._met = True
                self._patience.renew()
                yield response
            finally:
                response.close()
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise ConnectionFailed(
                f"cannot connect to {self.url}: {error}. Is the daemon running? "
                "Start it with `task-runner serve`, or say where it is with TASK_RUNNER_URL"
            ) from None
        except httpx.TimeoutException:
            self._met = True
            raise Silent(f"{self.url} does not answer in time; `task-runner doctor` may know why") from None
        except httpx.RequestError as error:
            self._met = True
            raise ConnectionFailed(f"the connection to {self.url} broke: {error}") from None
        except httpx.InvalidURL as error:
            raise InvalidRequest.at("url", str(error)) from None

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        response.read()
        error = ApiError.of(response.status_code, _json_or_none(response))
        if error.status == 401 and self._hint:
            error = ApiError(401, f"{error.detail} ({self._hint})")
        raise error

    def _wait_out(self, error: ConnectionFailed) -> None:
        if not self._met:
            raise error
        self._patience.spend(error)

    @property
    def _http(self) -> httpx.Client:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> httpx.Client:
        import httpx

        parts = split(self.url)
        # checking certificates means reading some hundred of them, for nothing where there is no TLS
        verify = parts.scheme == "https"
        transport = httpx.HTTPTransport(uds=parts.path) if parts.scheme == "unix" else None
        headers = {"User-Agent": "task-runner", "Accept-Encoding": "identity"}
        if self._token is not None:
            if not self._token.isascii() or not self._token.isprintable():
                raise InvalidRequest.at("token", "a token is made of printable ASCII characters")
            headers["Authorization"] = f"Bearer {self._token}"
        return httpx.Client(
            base_url="http://localhost" if transport else self.url,
            transport=transport,
            headers=headers,
            verify=verify,
            trust_env=not self.local,  # no proxy stands between a machine and itself
        )


def _alien(url: str) -> ApiError:
    return ApiError(502, f"what answers at {url} is not Task Runner: another port (TASK_RUNNER_URL)?")


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        raise _alien(str(response.url.copy_with(path="/", query=None))) from None


def _json_or_none(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return None
