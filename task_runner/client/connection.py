"""Sending a call to a daemon that may be away for a moment.

A daemon that has never answered is not waited for. One that has answered and goes away, as it does when it is
upgraded, is waited for ``patience`` seconds, where the request can be repeated: its tasks run on meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from task_runner import __version__
from task_runner.client.calls import Call
from task_runner.client.discovery import is_local, split
from task_runner.client.errors import ApiError, ConnectionFailed, Silent
from task_runner.client.patience import Patience
from task_runner.errors import InvalidRequest, TaskRunnerError

if TYPE_CHECKING:
    import httpx


class Connection:
    """The way to one daemon. Not to be used by two threads at once."""

    def __init__(
        self,
        url: str,
        token: str | None,
        *,
        patience: float,
        on_outage: Callable[[TaskRunnerError], None] | None,
        hint: str | None,
        met: bool,
    ) -> None:
        self.url = url
        self.local = is_local(url)
        self._token = token
        self._hint = hint
        self._patience = Patience(patience, on_outage)
        self._met = met
        self._opened: httpx.Client | None = None

    def close(self) -> None:
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def send(self, call: Call) -> httpx.Response:
        """The answer, read to its end. Raises ApiError, ConnectionFailed."""
        while True:
            try:
                with self.stream(call) as response:
                    response.read()
                    return response
            except (ApiError, ConnectionFailed) as error:
                if not call.repeatable:
                    raise
                self.wait_out(error)

    @contextmanager
    def stream(self, call: Call) -> Iterator[httpx.Response]:
        """The answer, its body unread. Raises ApiError, ConnectionFailed."""
        import httpx

        try:
            response = self._http.send(self._request(call), stream=True)
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

    def wait_out(self, error: ApiError | ConnectionFailed) -> None:
        """Pause before the next try. Raises ``error`` where it makes no sense to try again."""
        hopeless = error.status != 503 if isinstance(error, ApiError) else not self._met
        if hopeless:
            raise error
        self._patience.spend(error)

    def alien(self) -> ApiError:
        """The error for an answer that makes no sense."""
        return ApiError(502, f"what answers at {self.url} is not Task Runner, or not of this version ({__version__})")

    def _request(self, call: Call) -> httpx.Request:
        import httpx

        timeout = httpx.Timeout(call.timeout, connect=10.0)
        query = tuple(call.query) or None
        try:
            return self._http.build_request(
                call.method,
                call.path,
                params=query,
                json=call.body,
                content=call.content,
                headers=call.headers,
                timeout=timeout,
            )
        except (ValueError, httpx.InvalidURL) as error:  # not Unicode, not a finite number
            raise InvalidRequest(f"this cannot be sent: {error}") from None

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        response.read()
        try:
            body: Any = response.json()
        except ValueError:
            body = None
        error = ApiError.of(response.status_code, body)
        if error.status == 401 and self._hint:
            error = ApiError(401, f"{error.detail} ({self._hint})")
        raise error

    @property
    def _http(self) -> httpx.Client:
        if self._opened is None:
            self._opened = self._open()
        return self._opened

    def _open(self) -> httpx.Client:
        import httpx

        parts = split(self.url)
        # the server closes what is idle for 5 s, and a request that was just on its way there would be lost
        limits = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=2.0)
        transport = httpx.HTTPTransport(uds=parts.path, limits=limits) if parts.scheme == "unix" else None
        headers = {"User-Agent": f"task-runner/{__version__}", "Accept-Encoding": "identity"}
        if self._token is not None:
            if not self._token.isascii() or not self._token.isprintable():
                raise InvalidRequest.at("token", "a token is made of printable ASCII characters")
            headers["Authorization"] = f"Bearer {self._token}"
        # to verify means to read some hundred certificates first, for nothing where there is no TLS
        verify = parts.scheme == "https"
        return httpx.Client(
            base_url="http://localhost" if transport else self.url,
            transport=transport,
            headers=headers,
            limits=limits,
            verify=verify,
            trust_env=not self.local,  # no proxy stands between a machine and itself
        )
