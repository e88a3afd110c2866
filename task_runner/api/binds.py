"""Which addresses the daemon may listen on.

The rule is checked twice: by `task-runner serve` before anything starts, and by the application when a server
(gunicorn started by hand) has already bound its sockets, by looking at the sockets this process listens on.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat
from collections.abc import Iterator, Mapping

from task_runner.api.listener import Listener
from task_runner.errors import Refused, UnsafeBind
from task_runner.service.settings import Settings


def check(addresses: list[str], settings: Settings) -> None:
    """Raises UnsafeBind if one of these addresses would let strangers in, or let them listen."""
    listeners = own(settings)
    for address in addresses:
        dialect = _whose(address, listeners)
        if dialect is not None and lets_anybody_in(dialect, settings):
            continue  # somebody has said so
        if address.startswith("unix:") or _is_loopback(address):
            continue
        if settings.auth == "none":
            raise UnsafeBind(
                f"auth is none and {address} can be reached from other machines: use auth = token, or bind to "
                f"127.0.0.1 or a Unix socket{_no_token(dialect)}"
            )
        if not settings.plain_http and not settings.tls_certificate:
            raise UnsafeBind(
                f"{address} can be reached from other machines, and tokens would go there in the clear: set "
                f"tls_certificate and tls_key, or plain_http = true where a proxy in front does TLS{_no_token(dialect)}"
            )


def _no_token(dialect: str | None) -> str:
    if dialect != "executor":
        return ""
    return (
        "; clients of the task-executor know no tokens: executor_auth = none (TASK_RUNNER_EXECUTOR_AUTH=none) lets "
        "whoever reaches this address run commands here"
    )


def own(settings: Settings) -> dict[str, Listener]:
    """The addresses of the dialects that have one of their own. Raises Refused, which names the setting."""
    found: dict[str, Listener] = {}
    for name in settings.dialects:
        if name not in settings.dialect_binds:
            continue
        try:
            listener = Listener.parse(settings.dialect_binds[name])
        except ValueError as error:
            raise Refused(f"settings: dialect_binds.{name}: {error}") from None
        for other, theirs in found.items():
            if listener.meets(theirs):
                raise Refused(
                    f"settings: dialect_binds.{name}: {listener} is the address of dialect_binds.{other} as well; give "
                    "each its own, or leave both out: then they share those of /v1"
                )
        found[name] = listener
    return found


def check_apart(addresses: list[str], settings: Settings) -> None:
    """Raises Refused where a dialect's own address is one of those that `--bind` gives to /v1."""
    for name, listener in own(settings).items():
        for address in addresses:
            if (there := _listener(address)) is not None and listener.meets(there):
                raise Refused(
                    f"settings: dialect_binds.{name}: {listener} is also the address of /v1 (--bind {address}); give "
                    "one of them another port, or leave the setting out: then both are served there"
                )


def unheard(addresses: list[str], settings: Settings) -> Iterator[str]:
    """What is wrong where a dialect's own address is of no use, in words."""
    there = [each for address in addresses if (each := _listener(address)) is not None]
    for name, listener in own(settings).items():
        if not any(listener.meets(each) for each in there):
            yield (
                f"dialect_binds.{name}: nothing listens on {listener}, so nobody reaches the dialect: add --bind "
                f"{listener} (or a socket unit), or start with `task-runner serve`, which does"
            )
    for name, address in settings.dialect_binds.items():
        if name not in settings.dialects:
            yield f"dialect_binds.{name}: {address} is not listened on, for dialects does not have {name}"


def _listener(address: str) -> Listener | None:
    """None: a free port, a descriptor; no dialect has that."""
    try:
        return Listener.parse(address)
    except ValueError:
        return None


def _whose(address: str, listeners: Mapping[str, Listener]) -> str | None:
    """The dialect that everything which comes in there is for."""
    server = _server(address)
    return next((name for name, listener in listeners.items() if listener.hears(server)), None)


def lets_anybody_in(dialect: str, settings: Settings) -> bool:
    """Whether whoever reaches a dialect's own address needs no token there."""
    return dialect == "executor" and settings.executor_auth == "none"


def _server(address: str) -> tuple[str, int | None]:
    """As an ASGI scope has it; also of an address that cannot be a dialect's, as that of a socket may be."""
    if address.startswith("unix:"):
        return address.removeprefix("unix:"), None
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port) if port.isdigit() else 0


def _is_loopback(address: str) -> bool:
    host = address.rsplit(":", 1)[0].strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listening() -> list[str]:
    """The addresses of all stream sockets on which this process listens."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if not stat.S_ISSOCK(os.stat(f"/proc/self/fd/{name}").st_mode):
                continue
            copy = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        with copy:
            if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                found.append(_address(copy))
    return found


def _address(listener: socket.socket) -> str:
    if listener.family == socket.AF_UNIX:
        return f"unix:{listener.getsockname()}"
    host, port = listener.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


#: where clients on this machine reach an address that is any
_ANY = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104


def url(addresses: list[str], settings: Settings) -> str | None:
    """The address that clients on this machine are best told: one of /v1."""
    scheme = "https" if settings.tls_certificate else "http"
    listeners = own(settings)
    reachable = [_reachable(address) for address in sorted(addresses, key=lambda each: not _is_loopback(each))]
    mine = [address for address in reachable if _whose(address, listeners) is None]
    for address in mine:
        if not address.startswith("unix:"):
            return f"{scheme}://{address}"
    return mine[0].replace("unix:", "unix://", 1) if mine else None


def _reachable(address: str) -> str:
    host, colon, port = address.rpartition(":")
    return address if host == "unix" else f"{_ANY.get(host, host)}{colon}{port}"
