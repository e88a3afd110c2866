"""Where the daemon is and which token it takes, as far as this machine and this user know.

The first of these that is there says where:

    what is given (--url, --state-dir; `Client(url)`)
    the context that is given (--context; `Client(context=…)`)
    TASK_RUNNER_URL
    TASK_RUNNER_CONTEXT
    TASK_RUNNER_STATE_DIR
    the context in use (`task-runner context use`)
    the usual state directories

A state directory has `address.json`, which the daemon writes when it is ready, and `token`. A context may have a token
of its own; else it is TASK_RUNNER_TOKEN, and else, for a daemon on this machine, that of the state directory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from task_runner.client.urls import Parts, is_local, split
from task_runner.errors import InvalidRequest

if TYPE_CHECKING:
    from task_runner.client.contexts import Context

__all__ = [
    "DEFAULT_URL", "SYSTEM_STATE_DIR", "Address", "Parts", "contexts_path", "find", "is_local", "split",
    "state_directory",
]

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
    #: what told the address, and what the token; None: there is none
    url_from: str = "given"
    token_from: str | None = None


def find(
    url: str | None = None,
    state_dir: str | None = None,
    env: Mapping[str, str] = os.environ,
    *,
    context: str | None = None,
) -> Address:
    """The address to use. What is given stands above the environment. Raises InvalidRequest."""
    directory = state_dir or state_directory(env)
    told_url, pid = _read_address(directory)
    named = None if url or (state_dir and told_url) else _context(context, state_dir, env)
    if named is not None:
        chosen, why = named.url, f"context {named.name}"
    else:
        home = os.path.join(directory, "address.json")
        # a directory that was given and where no daemon has ever been tells nothing
        below = [(env.get("TASK_RUNNER_URL"), "TASK_RUNNER_URL"), (told_url, home)]
        ways = [(url, "given"), *(reversed(below) if state_dir else below), (DEFAULT_URL, "default")]
        chosen, why = next((value, source) for value, source in ways if value)
    pid, told = (pid, directory) if chosen == told_url else (None, None)
    if named is not None and (token := named.secret()) is not None:
        return Address(chosen, token, pid, None, told, why, named.token_file or why)
    if token := env.get("TASK_RUNNER_TOKEN"):
        return Address(chosen, token.strip(), pid, None, told, why, "TASK_RUNNER_TOKEN")
    if not is_local(chosen):
        # a token of this machine is nobody else's business
        remedy = "set TASK_RUNNER_TOKEN to the token of that machine's daemon"
        return Address(chosen, hint=remedy, url_from=why)
    path = os.path.join(directory, "token")
    token, hint = _read_token(path)
    return Address(chosen, token, pid, hint, told, why, path if token else None)


def contexts_path(env: Mapping[str, str] = os.environ) -> str:
    """Where the contexts of this user are kept."""
    return os.path.join(env.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config"), "task-runner", "contexts.toml")


def _context(given: str | None, state_dir: str | None, env: Mapping[str, str]) -> Context | None:
    """The context that is meant. Raises InvalidRequest where it is not there, or the file is no good."""
    if given is None and (state_dir or env.get("TASK_RUNNER_URL")):
        return None
    name = given if given is not None else env.get("TASK_RUNNER_CONTEXT") or None
    if name is None and (env.get("TASK_RUNNER_STATE_DIR") or not os.path.exists(contexts_path(env))):
        return None
    from task_runner.client import contexts  # here: most have none, and TOML takes a while to load

    found = contexts.load(contexts_path(env))
    return found.default() if name is None else found.get(name)


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
