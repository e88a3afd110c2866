"""`task-runner serve --dialect executor`: what OpenSandbox's task-executor is told, as settings of ours.

What counts first: a flag, a setting of ours (TASK_RUNNER_… or the TOML file), the task-executor's environment variable,
its default.
"""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field

from task_runner.errors import Refused
from task_runner.service.settings import Settings

DEFAULT_DATA_DIR = "/var/lib/sandbox/tasks"
DEFAULT_LISTEN_ADDR = "0.0.0.0:5758"  # which needs executor_auth = none, or what any such address needs
#: of flags that are taken, and change nothing
_WITHOUT_EFFECT = {
    "reconcile-interval": "news of a task is seen when it comes",
    "log-dir": "the daemon logs to stderr",
    "log-max-size": "the daemon logs to stderr",
    "log-max-backups": "the daemon logs to stderr",
    "log-max-age": "the daemon logs to stderr",
}
#: as Go reads a flag
_TRUE, _FALSE = ("1", "t", "T", "true", "TRUE", "True"), ("0", "f", "F", "false", "FALSE", "False")


@dataclass(frozen=True, kw_only=True, slots=True)
class Mode:
    """What follows from the flags and variables."""

    state_dir: str
    #: settings, as their environment variables have them
    environment: dict[str, str] = field(default_factory=dict)
    #: for whoever has started it
    notices: list[str] = field(default_factory=list)


def mode_of(
    flags: Mapping[str, str], environ: Mapping[str, str], known: Settings, state_dir: str | None = None
) -> Mode:
    """``known``: what is set otherwise; ``state_dir``: by --state-dir. Raises Refused."""
    said = known.model_fields_set
    return Mode(
        state_dir=_state_dir(flags, environ, known, state_dir),
        environment={
            f"TASK_RUNNER_{name.upper()}": value
            for name, value in (
                *_listen(flags, environ, known),
                *_sidecar(flags, environ, known),
                *_containers(flags, environ, known),
                *((("pass_environment", '["*"]'),) if "pass_environment" not in said else ()),
            )
        },
        notices=[f"--{name} has no effect: {_WITHOUT_EFFECT[name]}" for name in flags if name in _WITHOUT_EFFECT],
    )


def _state_dir(
    flags: Mapping[str, str], environ: Mapping[str, str], known: Settings, state_dir: str | None
) -> str:
    if (flag := _text(flags, "data-dir")) is not None:
        if state_dir is not None:
            raise Refused("--data-dir and --state-dir mean the same here: give one of them")
        return flag
    if state_dir is not None:
        return state_dir
    return known.state_dir if "state_dir" in known.model_fields_set else environ.get("DATA_DIR") or DEFAULT_DATA_DIR


def _listen(flags: Mapping[str, str], environ: Mapping[str, str], known: Settings) -> list[tuple[str, str]]:
    address = _text(flags, "listen-addr")
    if address is None:
        if "executor" in known.dialect_binds:
            return []
        address = environ.get("LISTEN_ADDR") or DEFAULT_LISTEN_ADDR
    if re.fullmatch(":[0-9]+", address) and socket.has_dualstack_ipv6():
        address = f"[::]{address}"  # as Go has it: by IPv4 and by IPv6
    return [("dialect_binds", json.dumps({**known.dialect_binds, "executor": address}))]


def _sidecar(flags: Mapping[str, str], environ: Mapping[str, str], known: Settings) -> list[tuple[str, str]]:
    said = known.model_fields_set
    settings: list[tuple[str, str]] = []
    wanted = _switch(flags, "enable-sidecar-mode")
    if wanted is None and "executor_sidecar" not in said:
        wanted = environ.get("ENABLE_SIDECAR_MODE") == "true"
    if wanted is not None:
        settings.append(("executor_sidecar", json.dumps(wanted)))
    if (known.executor_sidecar if wanted is None else wanted) and "sidecars" not in said:
        settings.append(("sidecars", "true"))
    name = _text(flags, "main-container-name")
    if name is None and "executor_main_container" not in said:
        name = environ.get("MAIN_CONTAINER_NAME") or None
    return settings if name is None else [*settings, ("executor_main_container", name)]


def _containers(flags: Mapping[str, str], environ: Mapping[str, str], known: Settings) -> list[tuple[str, str]]:
    said = known.model_fields_set
    settings: list[tuple[str, str]] = []
    wanted = _switch(flags, "enable-container-mode")
    if wanted is None and "executor_containers" not in said and "ENABLE_CONTAINER_MODE" in environ:
        wanted = environ["ENABLE_CONTAINER_MODE"] == "true"
    if wanted is not None:
        settings.append(("executor_containers", json.dumps(wanted)))
    path = _text(flags, "cri-socket")
    if path is None and "engines" not in said:
        path = environ.get("CRI_SOCKET") or None
    if path is not None:  # the first one is the default
        others = {name: other for name, other in known.engines.items() if name != "cri"}
        settings.append(("engines", json.dumps({"cri": path, **others})))
    return settings


def _text(flags: Mapping[str, str], name: str) -> str | None:
    value = flags.get(name)
    if value == "":
        raise Refused(f"--{name}: the value is empty")
    return value


def _switch(flags: Mapping[str, str], name: str) -> bool | None:
    value = flags.get(name)
    if value is None or value in _TRUE:
        return None if value is None else True
    if value in _FALSE:
        return False
    raise Refused(f"--{name}: {value!r} is neither true nor false")
