"""`task-runner serve`: gunicorn with one uvicorn worker, which is the daemon.

gunicorn's arbiter keeps the listening socket while the worker is replaced, replaces one that hangs or dies, and
speaks systemd's notify protocol and socket activation. One worker, because a state directory has one daemon.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import NoReturn

from task_runner.api import binds
from task_runner.errors import Refused
from task_runner.lib.statedir import StateDirectory
from task_runner.service import settings as settings_module
from task_runner.service.accounts import switches

DEFAULT_BIND = "127.0.0.1:8000"
APPLICATION = "task_runner.api.star_app:create_app()"


def main(
    *, bind: list[str], state_dir: str | None, auth: str | None, config: str | None, dialects: list[str]
) -> NoReturn:
    """Replace this process by gunicorn. ``dialects``: beside those of the settings. Raises Refused."""
    if config is not None:
        os.environ["TASK_RUNNER_CONF"] = os.path.abspath(config)
    if dialects:
        there_are = settings_module.load().dialects
        os.environ["TASK_RUNNER_DIALECTS"] = json.dumps(list(dict.fromkeys([*there_are, *dialects])))
    settings = settings_module.load(state_dir=state_dir, auth=auth)
    addresses = [*(bind or [DEFAULT_BIND]), *binds.own(settings).values()]
    if not os.environ.get("LISTEN_FDS"):  # sockets handed over by systemd are checked by the application
        binds.check(addresses, settings)
    StateDirectory(settings.state_dir).create(shared=switches(settings))
    os.environ["TASK_RUNNER_STATE_DIR"] = os.path.abspath(settings.state_dir)
    os.environ["TASK_RUNNER_AUTH"] = settings.auth
    command = [sys.executable, "-m", "gunicorn", "--worker-class", "uvicorn_worker.UvicornWorker"]
    for address in addresses:
        command += ["--bind", address]
    command += ["--workers", "1", "--graceful-timeout", "10", "--timeout", "60", "--umask", "0o77"]
    command += ["--no-control-socket"] if _has_control_socket() else []
    if settings.tls_certificate and settings.tls_key:
        command += ["--certfile", settings.tls_certificate, "--keyfile", settings.tls_key]
    elif settings.tls_certificate or settings.tls_key:
        raise Refused("settings: tls_certificate and tls_key belong together")
    logging.shutdown()
    os.execv(sys.executable, [*command, APPLICATION])


def _has_control_socket() -> bool:
    from gunicorn.config import KNOWN_SETTINGS

    return any(setting.name == "control_socket_disable" for setting in KNOWN_SETTINGS)
