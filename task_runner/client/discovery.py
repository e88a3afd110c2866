"""Where the daemon is and which token it takes, as far as this machine and this user know.

TASK_RUNNER_URL and TASK_RUNNER_TOKEN win. What they leave open stands in the daemon's state directory:
`address.json`, which the daemon writes when it is ready, and `token`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from task_runner.errors import InvalidRequest

DEFAULT_URL = "http://127.0.0.1:8000"
SYSTEM_STATE_DIR = "/var/lib/task-runner"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to send requests, and with which token."""

    url: str
    token: str | None = field(default=None, repr=False)
    #: the daemon's process, if its state directory told
    pid: int | None = None
    #: why there is no token, for the person whom the daemon turns away
    hint: str | None = None
    #: the daemon's state directory, if that is what told the address
    state_dir: str | None = None


def find(url: str | None = None, state_dir: str | None = None, env: Mapping[str, str] = os.environ) -> Address:
    """The address to use. ``url`` and ``state_dir`` stand above the environment."""
    directory = state_dir or state_directory(env)
    told_url, pid = _read_address(directory)
    chosen = url or env.get("TASK_RUNNER_URL") or told_url or DEFAULT_URL
    pid = pid if chosen == told_url else None
    home = directory if chosen == told_url else None
    if token := env.get("TASK_RUNNER_TOKEN"):
        return Address(chosen, token.strip(), pid, None, home)
    if not is_local(chosen):
        # a token of this machine is nobody else's business
        return Address(chosen, hint="set TASK_RUNNER_TOKEN to the token of that machine's daemon")
    token, hint = _read_token(os.path.join(directory, "token"))
    return Address(chosen, token, pid, hint, home)


def state_directory(env: Mapping[str, str] = os.environ) -> str:
    """The state directory that is most likely meant; it need not exist."""
    if given := env.get("TASK_RUNNER_STATE_DIR"):
        return given
    if given := env.get("STATE_DIRECTORY"):
        return given.split(":")[0]
    own = os.path.join(env.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state"), "task-runner")
    candidates = [own, SYSTEM_STATE_DIR]
    if os.geteuid() == 0 and "XDG_STATE_HOME" not in env:
        candidates.reverse()  # as the daemon itself chooses
    for name in ("address.json", "token"):
        for candidate in candidates:
            if os.path.exists(os.path.join(candidate, name)):
                return candidate
    return next((each for each in candidates if os.path.isdir(each)), candidates[0])


def is_local(url: str) -> bool:
    """Whether this address cannot leave the machine. Raises InvalidRequest for what is no address."""
    parts = split(url)
    if parts.scheme == "unix" or parts.hostname in ("localhost", "127.0.0.1"):
        return True
    import ipaddress  # here: `--help` does without it

    try:
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Parts:
    """An address taken apart."""

    scheme: str
    hostname: str | None
    #: of the socket, for unix
    path: str


def split(url: str) -> Parts:
    """Take an address apart. Raises InvalidRequest."""
    try:
        parts = urlsplit(url)
        hostname, _port = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidRequest.at("url", f"{url!r}: {error}") from None
    if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
        return Parts("unix", None, parts.path)
    if parts.scheme in ("http", "https") and hostname:
        return Parts(parts.scheme, hostname, parts.path)
    raise InvalidRequest.at("url", f"{url!r} is none of http://HOST:PORT, https://HOST:PORT, unix:///PATH")


def _read_address(directory: str) -> tuple[str | None, int | None]:
    try:
        with open(os.path.join(directory, "address.json"), encoding="utf-8") as file:
            told = json.load(file)
        url, pid = told["url"], told.get("pid")
        is_local(url)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, InvalidRequest):
        return None, None  # no daemon has been ready here, or we may not look
    return url, pid if type(pid) is int else None


def _read_token(path: str) -> tuple[str | None, str | None]:
    try:
        with open(path, encoding="ascii") as file:
            return file.read(4096).strip() or None, None
    except FileNotFoundError:
        return None, f"there is no token in {path}; set TASK_RUNNER_TOKEN or TASK_RUNNER_STATE_DIR"
    except PermissionError:
        return None, f"you may not read {path}; work as the daemon's user, or set TASK_RUNNER_TOKEN"
    except (OSError, UnicodeDecodeError) as error:
        return None, f"{path}: {error}"
