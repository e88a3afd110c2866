"""Where each setting comes from, and what is set that is none: a name that is misspelt sets nothing, silently."""

from __future__ import annotations

import json
import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from task_runner.environment.base import SECRET_VARIABLE
from task_runner.errors import Refused
from task_runner.service.nearest import nearest
from task_runner.service.settings import Settings

PREFIX = "TASK_RUNNER_"
CONF = "TASK_RUNNER_CONF"
#: variables that are no settings: of clients; of systemd's unit; those that a command finds, who may start a daemon
_OTHERS = frozenset(
    f"{PREFIX}{name}"
    for name in (
        "CONF", "URL", "TOKEN", "CONTEXT", "FAILPOINT", "UNIT_RELEASES_CGROUPS",
        "TASK_ID", "ATTEMPT", "ACTION", "ENTITY", "BATCH", "NAME", "STREAM", "PART", "PROGRESS", "FILES", "CONTAINER",
        "SIDECAR",
    )
)  # fmt: skip
_BIND = "where the daemon listens is said by `task-runner serve --bind HOST:PORT` (or unix:/PATH), or by a socket unit"
#: what is often taken for a setting: the one that is meant, or what to do in place of it
_MEANT = {
    **dict.fromkeys(("bind", "binds", "listen", "address", "host", "port", "socket"), _BIND),
    **dict.fromkeys(("config", "config_file", "conf_file", "settings"), f"the file with settings is named by {CONF}"),
    **dict.fromkeys(("cert", "certfile", "certificate", "tls_cert", "ssl_cert", "ssl_certfile"), "tls_certificate"),
    **dict.fromkeys(("key", "keyfile", "tls_keyfile", "ssl_key", "ssl_keyfile"), "tls_key"),
}
_PASSWORD = re.compile(r"(?<=://)[^/\s]*@")


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """One setting."""

    name: str
    #: as JSON has it; a password in an address is left out
    value: Any
    #: "default", a variable, a file; a table may come from two
    sources: list[str]


def origins(settings: Settings | None, environ: Mapping[str, str] = os.environ) -> list[Origin]:
    """Every setting; where they are not valid (None), what was given for it in place of the value. Raises Refused."""
    told, path = _file(environ), environ.get(CONF)
    # names of variables are taken in any case, as pydantic takes them
    variables = {name.upper(): name for name in environ if name.upper().startswith(PREFIX)}
    values = None if settings is None else settings.model_dump(mode="json")
    found = []
    for name, field in Settings.model_fields.items():
        variable = variables.get(f"{PREFIX}{name}".upper())
        sources = ([variable] if variable else []) + ([str(path)] if name in told else [])
        if values is not None:
            value = values[name]
        elif variable:
            value = _read(environ[variable])
        else:
            value = told.get(name, field.get_default(call_default_factory=True))
        if len(sources) == 2 and not isinstance(value, dict):
            sources = sources[:1]  # the other one is not asked
        if name == "state_dir" and not sources and environ.get("STATE_DIRECTORY"):
            sources = ["STATE_DIRECTORY"]
        found.append(Origin(name=name, value=_without_password(value), sources=sources or ["default"]))
    return found


def strangers(environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """What looks like a setting and is none, in words. Raises Refused where the file cannot be read."""
    names = list(Settings.model_fields)
    for variable in sorted(environ):
        name = variable.upper()
        if not name.startswith(PREFIX) or name in _OTHERS or name.startswith(SECRET_VARIABLE):
            continue
        if (plain := name.removeprefix(PREFIX).lower()) not in names:
            yield f"{variable}: there is no such setting; {_meant(plain, names, lambda near: PREFIX + near.upper())}"
    for key in _file(environ):
        if key not in names:
            yield f"{environ[CONF]}: {key}: there is no such setting; {_meant(key, names, str)}"


def _meant(name: str, names: list[str], shown: Callable[[str], str]) -> str:
    """What may be meant by a name that is no setting's, in words."""
    meant = _MEANT.get(name.lower()) or nearest(name, names)
    if meant is None:
        return "`task-runner config show` lists those that there are"
    return f"{shown(meant)} is meant?" if meant in names else meant


def _file(environ: Mapping[str, str]) -> dict[str, Any]:
    if not (path := environ.get(CONF)):
        return {}
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise Refused(f"{CONF}: {path}: {error.strerror}") from None
    except ValueError as error:
        raise Refused(f"{CONF}: {path} is not TOML: {error}") from None


def _read(text: str) -> Any:
    """What a variable says: JSON where it is a list or a table."""
    try:
        return json.loads(text) if text.startswith(("[", "{")) else text
    except ValueError:
        return text


def _without_password(value: Any) -> Any:
    if isinstance(value, str):
        return _PASSWORD.sub("***@", value)
    if isinstance(value, list):
        return [_without_password(each) for each in value]
    if isinstance(value, dict):
        return {key: _without_password(each) for key, each in value.items()}
    return value
