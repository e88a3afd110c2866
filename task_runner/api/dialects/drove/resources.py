"""Resources: what of the node is set aside for a task, and what its container may use at most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from task_runner.api.dialects.drove.reader import Reader

#: as much as a Java int holds: Drove knows no more
_MOST = 2**31 - 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Needs:
    """Sums of what a request asks for."""

    cpus: int = 0
    memory_mb: int = 0

    def body(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """`resources` of a spec, and `limits` of its container."""
        resources = {"cpus": self.cpus, "memoryMb": self.memory_mb}
        limits = {"cpus": self.cpus or None, "memoryMb": self.memory_mb or None}
        return resources, {name: value for name, value in limits.items() if value is not None}


def read(spec: Reader) -> tuple[Needs, list[dict[str, Any]]]:
    """What is needed, and the list as Drove has it."""
    cpus = memory = 0
    told: list[dict[str, Any]] = []
    for each in spec.objects("resources", missing="- CPU/Memory requirements must be specified"):
        kind = each.word("type", ("CPU", "MEMORY"))
        if kind == "CPU" and (count := each.whole("count", 1, _MOST)) is not None:
            cpus += count
            told.append({"type": kind, "count": count})
        elif kind == "MEMORY" and (size := each.whole("sizeInMB", 1, _MOST)) is not None:
            memory += size
            told.append({"type": kind, "sizeInMB": size})
    return Needs(cpus=cpus, memory_mb=memory), told
