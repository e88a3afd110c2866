"""Containers: what the server allows them, and which engines there are. The daemon itself asks an engine for no more
than its version: what tasks want of it is asked by their own processes."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

from task_runner.engines.find import Available, available, choose
from task_runner.engines.listing import Connection
from task_runner.errors import EngineMissing, FieldError
from task_runner.model.codec import from_json
from task_runner.model.containerpolicy import ContainerPolicy
from task_runner.model.spec import Action, Spec
from task_runner.model.walls import ContainerParameters, Device
from task_runner.service.settings import Settings

#: seconds for which it is believed which engines answer
BELIEVED = 3.0
#: seconds for which the version of an engine is believed: Podman asks the package manager for it, each time for 0.3 s
VERSION_BELIEVED = 300.0
#: seconds that an engine has to say its version
_PATIENCE = 3.0


class Containers:
    """What is asked when a task is submitted. Any thread may ask."""

    def __init__(self, settings: Settings) -> None:
        self._sockets: dict[str, str] = {name: path for name, path in settings.engines.items()}  # noqa: C416
        self._policy = policy(settings)
        self._lock = threading.Lock()
        self._found: list[Available] = []
        self._found_at: float | None = None
        #: by socket, with when it was told
        self._versions: dict[str, tuple[str, float]] = {}

    def check(self, spec: Spec, _token: str = "") -> Iterator[FieldError]:
        """What a spec wants of containers and this server does not have or allow."""
        for where, action in spec.every_action():
            if action.machine == "container":
                yield from self._check(f"{where}.parameters", action)

    def _check(self, where: str, action: Action) -> Iterator[FieldError]:
        wanted = from_json(ContainerParameters, action.parameters)
        if (why := self.why_no_engine(wanted.engine)) is not None:
            field = f"{where}.engine" if wanted.engine is not None else f"{where.rpartition('.')[0]}.machine"
            yield FieldError(field, why)
        allowed = self._policy
        for index, mount in enumerate(wanted.mounts):
            if (why := allowed.why_not_mount(mount)) is not None:
                yield FieldError(f"{where}.mounts.{index}.source", why)
        for index, device in enumerate(wanted.devices):
            path = device.path if isinstance(device, Device) else device
            if (why := allowed.why_not_device(path)) is not None:
                yield FieldError(f"{where}.devices.{index}", why)
        network = wanted.network or next(iter(allowed.networks), "")
        if (why := allowed.why_not_network(network)) is not None:
            yield FieldError(f"{where}.network", why)

    def why_no_engine(self, name: str | None) -> str | None:
        """Why the engine of this name (None: the first one) cannot be used; None: it can."""
        engines = self._available()
        try:
            chosen = choose(name, engines, self._sockets)
        except EngineMissing as error:
            return str(error)
        return chosen.problem

    def _available(self) -> list[Available]:
        with self._lock:
            if self._found_at is None or time.monotonic() - self._found_at > BELIEVED:
                self._found = available(self._sockets)
                self._found_at = time.monotonic()
            return self._found

    def engines(self) -> list[dict[str, Any]]:
        """For people: each engine with its version (none: it does not say), or why it cannot be used. Blocks."""
        return [
            {"name": each.name, "version": self._version(each), "problem": each.problem} for each in self._available()
        ]

    def _version(self, engine: Available) -> str | None:
        if engine.problem is not None:
            return None
        told = self._versions.get(engine.socket)
        if told is not None and time.monotonic() - told[1] < VERSION_BELIEVED:
            return told[0]
        found = version(engine)
        if found is not None:
            self._versions[engine.socket] = (found, time.monotonic())
        return found


def policy(settings: Settings) -> ContainerPolicy:
    """What the settings allow."""
    return ContainerPolicy(
        mounts=tuple(settings.container_mounts),
        state=os.path.realpath(settings.state_dir),
        devices=tuple(settings.container_devices),
        networks=tuple(settings.container_networks),
    )


def version(engine: Available) -> str | None:
    """What an engine that speaks HTTP says of its version."""
    if engine.name == "cri":
        return None
    connection = Connection(engine.socket, _PATIENCE)
    try:
        connection.request("GET", "/version", headers={"Connection": "close"})
        return str(json.loads(connection.getresponse().read(1_000_000))["Version"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return None
    finally:
        connection.close()
