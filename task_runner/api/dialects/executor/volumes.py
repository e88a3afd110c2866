"""Volumes of a pod, and where its containers show them."""

from __future__ import annotations

import re
from typing import Any

from task_runner.api.dialects.executor.kubernetes import Part

#: by name, as what a mount of it says; none: a faulty one
Volumes = dict[str, dict[str, Any] | None]

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_MOUNT = {"subPath": "mount the directory itself", "subPathExpr": "mount the directory itself"}


def volumes_of(parts: list[Part]) -> Volumes:
    """The volumes of a pod, by name."""
    found: Volumes = {}
    for each in parts:
        name = each.take("name", str) or ""
        if not _NAME.fullmatch(name):
            each.fault("name", "expected small letters, digits and hyphens, at most 63")
        elif name in found:
            each.fault("name", f"{name!r} stands there twice")
        found[name] = _volume(each, name)
    return found


def _volume(part: Part, name: str) -> dict[str, Any] | None:
    """Where it is: a directory of this machine, or one of the task."""
    sources = [each for each in part.said if each.lower() != "name"]
    kinds = [each.lower() for each in sources]
    if kinds in ([], ["emptydir"]):
        empty = part.part("emptyDir")
        empty.close({"medium": "it is kept on the disk, beside the task's output", "sizeLimit": "cannot be enforced"})
        return {"path": f"volumes/{name}", "makeDirectory": True}
    if kinds != ["hostpath"]:
        for each in sources:
            part.fault(each, "there are emptyDir and hostPath here, one of them for a volume, and no other volumes")
        return None
    host = part.part("hostPath")
    path = host.need("path")
    host.only("type", "Directory", "File")
    host.close({"type": "nothing is made on this machine: there are Directory and File"})
    return {"source": path}


def mounts(parts: list[Part], volumes: Volumes) -> dict[str, list[dict[str, Any]]]:
    """What of them a container shows, as parameters of the `container` machine."""
    found: dict[str, list[dict[str, Any]]] = {"mounts": [], "workMounts": []}
    for each in parts:
        name, target = each.take("name", str) or "", each.need("mountPath")
        read_only = {"readOnly": True} if each.take("readOnly", bool) else {}
        if name not in volumes:
            each.fault("name", f"there is no volume {name!r}; there are: {', '.join(volumes) or 'none'}")
        elif (volume := volumes[name]) is not None:
            kind = "mounts" if "source" in volume else "workMounts"
            found[kind].append({**volume, "target": target, **read_only})
        each.only("mountPropagation", "None")
        each.only("recursiveReadOnly", "Disabled")
        each.close(_MOUNT)
    return found
