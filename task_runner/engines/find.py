"""Which container engines there are, and how to reach them. Nothing here loads a client library to find out."""

from __future__ import annotations

import importlib.util
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

from task_runner.engines.base import Engine, Found
from task_runner.errors import EngineMissing

#: seconds that a socket has to take a connection
_PATIENCE = 2.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _Kind:
    """What it takes to use an engine of this name."""

    title: str
    #: what importlib has to find, and the extra of this package that brings it
    library: str
    extra: str
    #: variables that name its socket, and the usual places
    variables: tuple[str, ...]
    places: tuple[str, ...]
    #: how to get it and start it
    remedy: str


_KINDS = {
    "podman": _Kind(
        title="Podman",
        library="docker",
        extra="docker",
        variables=("CONTAINER_HOST",),
        places=("/run/podman/podman.sock", "{runtime}/podman/podman.sock"),
        remedy="install the package podman and start its API with `systemctl enable --now podman.socket` (with --user "
        "for a user's own), or with `podman system service --time=0 unix:///run/podman/podman.sock`",
    ),
    "docker": _Kind(
        title="Docker",
        library="docker",
        extra="docker",
        variables=("DOCKER_HOST",),
        places=("/run/docker.sock", "/var/run/docker.sock", "{runtime}/docker.sock"),
        remedy="install the package docker.io (or Docker's own docker-ce) and start it with "
        "`systemctl enable --now docker`",
    ),
    "cri": _Kind(
        title="containerd",
        library="cri_api",
        extra="cri",
        variables=("CONTAINER_RUNTIME_ENDPOINT",),
        places=("/run/containerd/containerd.sock",),
        remedy="install the packages containerd and runc, and start it with `systemctl enable --now containerd`",
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Available:
    """An engine, and whether it can be used."""

    name: str
    socket: str
    #: why not, and what helps; none: it can be used
    problem: str | None = None


def available(sockets: Mapping[str, str]) -> list[Available]:
    """The engines that are configured, the default first; else those in the usual places, as far as they answer.

    Cheap: it connects to sockets, and asks for nothing. Those that are configured are listed even if they cannot be
    used, with what helps; and so is one that answers and only lacks its library.
    """
    if sockets:
        return [_examine(name, path) for name, path in sockets.items()]
    found = (_in_usual_places(name) for name in _KINDS)
    return [each for each in found if each is not None]


def open_engine(name: str | None, sockets: Mapping[str, str]) -> Engine:
    """The engine of that name, or the first one that can be used. Raises EngineMissing, which says what to install
    or to start, and EngineFailed where it does not answer as an engine does."""
    chosen = choose(name, available(sockets), sockets)
    if chosen.problem is not None:
        raise EngineMissing(chosen.problem)
    if chosen.name == "cri":
        from task_runner.engines.cri import CriEngine

        return CriEngine(chosen.socket)
    from task_runner.engines.docker import DockerEngine

    return DockerEngine(chosen.name, chosen.socket)


def find_containers(engine: Available, sockets: Mapping[str, str], labels: Mapping[str, str]) -> list[Found]:
    """What `Engine.find` says, without a client library where that is not needed for it. Raises EngineMissing and
    EngineFailed."""
    if engine.problem is not None:
        raise EngineMissing(engine.problem)
    if engine.name != "cri":
        from task_runner.engines import listing

        return listing.find(engine.name, engine.socket, labels)
    opened = open_engine(engine.name, sockets)
    try:
        return opened.find(labels)
    finally:
        opened.close()


def choose(name: str | None, engines: list[Available], sockets: Mapping[str, str]) -> Available:
    """Of those that are available, the one of that name, or the default. Raises EngineMissing; where one is there that
    cannot be used, it says so itself."""
    if name is None and not engines:
        ways = "; ".join(f"{kind.title}: {kind.remedy}" for kind in _KINDS.values())
        raise EngineMissing(f"there is no container engine here: {ways}; or set `engines`")
    for each in engines:
        if name == each.name or (name is None and (each.problem is None or sockets)):
            return each
    if name is None:
        return engines[0]
    if name not in _KINDS:
        raise EngineMissing(f"there is no engine called {name}: there are {', '.join(_KINDS)}")
    if sockets:
        raise EngineMissing(f"the setting `engines` does not name {name}, only {', '.join(sockets)}")
    kind = _KINDS[name]
    raise EngineMissing(f"{kind.title} does not answer at {', '.join(_places(kind))}: {kind.remedy}")


def _in_usual_places(name: str) -> Available | None:
    for path in _places(_KINDS[name]):
        if _unreachable(path) is None:
            return _examine(name, path)
    return None


def _places(kind: _Kind) -> list[str]:
    named = [os.environ.get(variable, "") for variable in kind.variables]
    paths = [value.removeprefix("unix://") for value in named if value.startswith(("unix://", "/"))]
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    usual = [place.format(runtime=runtime) for place in kind.places if runtime or "{runtime}" not in place]
    return list(dict.fromkeys(paths + usual))


def _examine(name: str, path: str) -> Available:
    kind = _KINDS.get(name)
    if kind is None:
        return Available(name=name, socket=path, problem=f"there is no engine called {name}: {', '.join(_KINDS)}")
    path = path.removeprefix("unix://")
    if reason := _unreachable(path):
        problem = f"{kind.title} does not answer at {path} ({reason}): {kind.remedy}"
        return Available(name=name, socket=path, problem=problem)
    if importlib.util.find_spec(kind.library) is None:
        remedy = f"pip install 'task-runner[{kind.extra}]'"
        problem = f"{kind.title} answers at {path}, but its client library is missing: {remedy}"
        return Available(name=name, socket=path, problem=problem)
    return Available(name=name, socket=path)


def _unreachable(path: str) -> str | None:
    """Why nothing answers there; None: something does."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(_PATIENCE)
        try:
            probe.connect(path)
        except OSError as error:
            return error.strerror or str(error)
    return None
