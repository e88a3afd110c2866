"""What containers may have of this machine: the same words when a task is submitted and when its container is made."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from task_runner.model.walls import Mount

#: behind a directory: only for reading
_READ_ONLY = ":ro"


@dataclass(frozen=True, kw_only=True, slots=True)
class ContainerPolicy:
    """What the server allows."""

    #: directories below which containers may mount; with ":ro" behind it, only for reading
    mounts: tuple[str, ...] = ()
    #: the state directory, which nobody may mount a part of
    state: str | None = None
    #: patterns of devices; `*` stands for any characters
    devices: tuple[str, ...] = ()
    #: the first one is the default
    networks: tuple[str, ...] = ("bridge", "none")

    def why_not_mount(self, mount: Mount) -> str | None:
        """Why a mount is refused; None: it is not. By its words alone: links are resolved by who asks."""
        source = posixpath.normpath(mount.source)
        if source.startswith("//"):
            source = source[1:]
        if self.state is not None and (_holds(self.state, source) or _holds(source, self.state)):
            return "the state directory of the server, and what holds it, is not shown to containers"
        fitting = [rule for rule in self.mounts if _holds(rule.removesuffix(_READ_ONLY), source)]
        if not fitting:
            allowed = ", ".join(self.mounts) or "none"
            return f"{source}: the server lets containers mount below these directories (container_mounts): {allowed}"
        if not mount.read_only and all(rule.endswith(_READ_ONLY) for rule in fitting):
            return f'{source}: the server allows it only for reading (container_mounts); say "readOnly": true'
        return None

    def why_not_device(self, path: str) -> str | None:
        """Why a device is refused."""
        if posixpath.normpath(path) == path and any(fnmatchcase(path, pattern) for pattern in self.devices):
            return None
        return f"the server lets containers have these devices (container_devices): {_listed(self.devices)}"

    def why_not_network(self, name: str) -> str | None:
        """Why a network is refused."""
        if name in self.networks:
            return None
        return f"the server lets containers use these networks (container_networks): {_listed(self.networks)}"


def _holds(directory: str, path: str) -> bool:
    """Whether a path is a directory or below it."""
    directory = posixpath.normpath(directory)
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def _listed(words: Sequence[str]) -> str:
    return ", ".join(words) or "none"
