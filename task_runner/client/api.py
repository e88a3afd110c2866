"""All that a client may ask, of whichever kind it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from task_runner.client.batches import Batches
from task_runner.client.calls import PROMPT
from task_runner.client.discovery import Address, find
from task_runner.client.events import Events
from task_runner.client.link import Link
from task_runner.client.node import Nodes
from task_runner.client.streams import Streams
from task_runner.client.templates import Templates
from task_runner.client.tokens import Tokens
from task_runner.errors import InvalidRequest, TaskRunnerError

#: seconds to wait for a daemon that is away, as it is when it is restarted
PATIENCE = 60.0


class Api(Streams, Events, Batches, Templates, Nodes, Tokens):
    """One daemon. Nothing is sent before the first call.

    Without ``url`` it is the daemon that `find` finds; ``context`` is the name that this user has given it.
    ``timeout``: seconds for an answer that needs no waiting.
    ``patience``: seconds for which a request is tried again, where that is safe and the daemon cannot be reached, does
    not answer, or is not ready (502, 503, 504); ``on_outage`` is told when that begins. ``met=False``: one that has
    never answered this client is not waited for. ``hint`` explains a missing token. ``ca_file``: a PEM file of the
    authorities to trust where it speaks TLS; else those of SSL_CERT_FILE or SSL_CERT_DIR, else the usual ones.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout: float = PROMPT,
        patience: float = PATIENCE,
        on_outage: Callable[[TaskRunnerError], None] | None = None,
        hint: str | None = None,
        met: bool = True,
        state_dir: str | None = None,
        context: str | None = None,
        ca_file: str | None = None,
    ) -> None:
        if url is None:
            found = find(state_dir=state_dir, context=context)
            url, token, hint, state_dir = found.url, token or found.token, hint or found.hint, found.state_dir
        if not timeout > 0 or not patience >= 0:
            raise InvalidRequest("timeout is a number of seconds greater than 0, patience one that is not negative")
        self._link = Link(
            url=url,
            token=token,
            hint=hint,
            state_dir=state_dir,
            timeout=timeout,
            patience=patience,
            on_outage=on_outage,
            met=met,
            ca_file=ca_file,
        )
        self._connect()

    @classmethod
    def at(cls, address: Address, **options: Any) -> Self:
        """The client of an address that was found."""
        return cls(address.url, address.token, hint=address.hint, state_dir=address.state_dir, **options)

    def _connect(self) -> None:
        """Make the driver."""
        raise NotImplementedError

    @property
    def url(self) -> str:
        return self._link.url

    @property
    def state_dir(self) -> str | None:
        """The daemon's state directory, where that is known: it told the address."""
        return self._link.state_dir

    @property
    def local(self) -> bool:
        """Whether the daemon is on this machine."""
        return self._link.local
