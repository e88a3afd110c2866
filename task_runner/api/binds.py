"""Which addresses the daemon may listen on.

The rule is checked twice: by `task-runner serve` before anything starts, and by the application when a server
(gunicorn started by hand) has already bound its sockets, by looking at the sockets this process listens on.
"""

from __future__ import annotations

import ipaddress
import os
import socket
import stat

from task_runner.api.surface import Listener
from task_runner.errors import UnsafeBind
from task_runner.service.settings import Settings


def check(addresses: list[str], settings: Settings) -> None:
    """Raises UnsafeBind if one of these addresses would let strangers in, or let them listen."""
    open_to_all = [Listener(address) for name, address in own(settings).items() if _open(name, settings)]
    for address in addresses:
        if any(listener.hears(server_of(address)) for listener in open_to_all):
            continue  # somebody has said so
        if address.startswith("unix:") or _is_loopback(address):
            continue
        if settings.auth == "none":
            raise UnsafeBind(
                f"auth is none and {address} can be reached from other machines: use auth = token, or bind to "
                "127.0.0.1 or a Unix socket"
            )
        if not settings.plain_http and not settings.tls_certificate:
            raise UnsafeBind(
                f"{address} can be reached from other machines, and tokens would go there in the clear: set "
                "tls_certificate and tls_key, or plain_http = true where a proxy in front does TLS"
            )


def own(settings: Settings) -> dict[str, str]:
    """The addresses of the dialects that have one of their own."""
    return {name: settings.dialect_binds[name] for name in settings.dialects if name in settings.dialect_binds}


def _open(dialect: str, settings: Settings) -> bool:
    return dialect == "executor" and settings.executor_auth == "none"


def server_of(address: str) -> tuple[str, int | None]:
    """As an ASGI scope has it."""
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


def url(addresses: list[str], settings: Settings) -> str | None:
    """The address that clients on this machine are best told."""
    scheme = "https" if settings.tls_certificate else "http"
    listeners = [Listener(address) for address in own(settings).values()]
    addresses = [each for each in addresses if not any(listener.hears(server_of(each)) for listener in listeners)]
    for address in sorted(addresses, key=lambda each: not _is_loopback(each)):
        if not address.startswith("unix:"):
            host, port = address.rsplit(":", 1)
            reachable = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104
            return f"{scheme}://{reachable}:{port}"
    return addresses[0].replace("unix:", "unix://", 1) if addresses else None
