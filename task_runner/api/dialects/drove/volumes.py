"""Volumes and devices: what of the node a task's container sees."""

from __future__ import annotations

from typing import Any

from task_runner.api.dialects.drove.reader import EMPTY, Reader

_PERMISSIONS = {"READ_ONLY": "r", "WRITE_ONLY": "w", "MKNOD_ONLY": "m", "ALL": "rwm", "READ_WRITE": "rw"}
_DETAILED = (
    "- a DETAILED device is a request to a driver of the Docker Engine, which is not passed on: name the files of "
    "the device, each as a DIRECT one"
)


def read_volumes(spec: Reader) -> list[dict[str, Any]]:
    """As Drove has them."""
    found = []
    for each in spec.objects("volumes"):
        inside = each.text("pathInContainer", missing="- Provide mount path inside container")
        here = each.text("pathOnHost", missing="- Provide host directory to mount")
        if each.get("mode") is None:
            each.fault("mode", "- Specify whether mount is read-only or read-write")
            continue
        mode = each.word("mode", ("READ_WRITE", "READ_ONLY"))
        if inside is not None and here is not None and mode is not None:
            found.append({"pathInContainer": inside, "pathOnHost": here, "mode": mode})
    return found


def mounts(volumes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`mounts` of a container."""
    return [
        {"source": each["pathOnHost"], "target": each["pathInContainer"], "readOnly": each["mode"] == "READ_ONLY"}
        for each in volumes
    ]


def read_devices(spec: Reader) -> list[dict[str, Any]]:
    """As Drove has them. Those of a kind that is not possible here are a fault."""
    found = []
    for each in spec.objects("devices"):
        kind = each.word("type", ("DIRECT", "DETAILED"))
        if kind == "DETAILED":
            each.fault("type", _DETAILED)
        elif kind == "DIRECT":
            here, inside = each.text("pathOnHost", missing=EMPTY), each.text("pathInContainer")
            permissions = each.word("permissions", _PERMISSIONS, default="ALL")
            if here is not None and permissions is not None:
                device = {"type": kind, "pathOnHost": here, "pathInContainer": inside, "permissions": permissions}
                found.append({name: value for name, value in device.items() if value is not None})
    return found


def device_list(devices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`devices` of a container."""
    return [
        {
            "path": each["pathOnHost"],
            "target": each.get("pathInContainer") or None,
            "permissions": _PERMISSIONS[each["permissions"]],
        }
        for each in devices
    ]
