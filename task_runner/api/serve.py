"""`task-runner serve`: gunicorn with one uvicorn worker, which is the daemon.

gunicorn's arbiter keeps the listening socket while the worker is replaced, replaces one that hangs or dies, and
speaks systemd's notify protocol and socket activation. One worker, because a state directory has one daemon.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from typing import NoReturn

from task_runner.api import binds, executormode, tls
from task_runner.api.listener import Listener
from task_runner.errors import Refused
from task_runner.lib.statedir import StateDirectory
from task_runner.service import settings as settings_module
from task_runner.service.accounts import switches
from task_runner.service.origins import strangers
from task_runner.service.settings import Settings

DEFAULT_BIND = "127.0.0.1:8000"
APPLICATION = "task_runner.api.star_app:create_app()"


def main(
    *,
    bind: list[str],
    state_dir: str | None,
    auth: str | None,
    config: str | None,
    dialects: list[str],
    executor_flags: Mapping[str, str],
) -> NoReturn:
    """Replace this process by gunicorn. ``dialects``: beside those of the settings. Raises Refused."""
    if config is not None:
        os.environ["TASK_RUNNER_CONF"] = os.path.abspath(config)
    known = settings_module.read()
    if dialects:
        os.environ["TASK_RUNNER_DIALECTS"] = json.dumps(list(dict.fromkeys([*known.dialects, *dialects])))
    notices: list[str] = []
    if as_executor := "executor" in dialects:
        mode = executormode.mode_of(executor_flags, os.environ, known, state_dir)
        os.environ.update(mode.environment)
        state_dir, notices = mode.state_dir, mode.notices
    settings = settings_module.load(state_dir=state_dir, auth=auth)
    tls.check(settings)
    state = StateDirectory(settings.state_dir)
    mine = bind or [_socket(state) if as_executor else DEFAULT_BIND]
    addresses = [*mine, *(str(listener) for listener in binds.own(settings).values())]
    if not os.environ.get("LISTEN_FDS"):  # sockets handed over by systemd are checked by the application
        binds.check_apart(mine, settings)
        binds.check(addresses, settings)
    state.create(shared=switches(settings))
    os.environ["TASK_RUNNER_STATE_DIR"] = state.path
    os.environ["TASK_RUNNER_AUTH"] = settings.auth
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "uvicorn_worker.UvicornWorker"]
    for address in addresses:
        command += ["--bind", address]
    command += ["--workers", "1", "--graceful-timeout", "10", "--timeout", "60", "--umask", "0o77"]
    command += ["--no-control-socket"] if _has_control_socket() else []
    if settings.tls_certificate and settings.tls_key:
        command += ["--certfile", settings.tls_certificate, "--keyfile", settings.tls_key]
    for notice in [*notices, *strangers(), *_closed(settings)]:
        print(f"task-runner: {notice}", file=sys.stderr, flush=True)
    logging.shutdown()
    os.execv(sys.executable, [*command, APPLICATION])


def _socket(state: StateDirectory) -> str:
    """Where /v1 is beside a task-executor: the ports may be shared with other containers, its files are not."""
    try:
        return str(Listener.parse(f"unix:{state.socket}"))
    except ValueError as error:
        raise Refused(f"{error}: say by --bind where /v1 is to be served") from None


def _closed(settings: Settings) -> Iterator[str]:
    if "executor" in settings.dialects and settings.executor_auth == "token" and settings.auth == "token":
        yield (
            "the dialect executor wants the daemon's token (Authorization: Bearer …), which clients of the "
            "task-executor do not send: they get 401. To let in whoever reaches its address: executor_auth = none "
            "(TASK_RUNNER_EXECUTOR_AUTH=none), with an address of its own (dialect_binds.executor)"
        )


def _has_control_socket() -> bool:
    from gunicorn.config import KNOWN_SETTINGS

    return any(setting.name == "control_socket_disable" for setting in KNOWN_SETTINGS)
