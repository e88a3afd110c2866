"""What clients send: a task in the shape of the released code, or in that of the usage guide.

The released code has a flat one, {"name", "process", "podTemplateSpec"}; the guide has {"name", "spec": {"process" or
"container"}}. Both are taken. Where both stand in one task the flat one counts, since it is all that the released
code looks at. What clients send of statuses is not looked at.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from task_runner.api.dialects.executor.gojson import Read, decode, fields, int64, mapping, mismatch, text, texts


@dataclass(frozen=True, kw_only=True, slots=True)
class Variable:
    """One of a process's environment."""

    name: str = ""
    value: str = ""
    #: where else the value comes from, as Kubernetes has it
    value_from: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Process:
    """A command."""

    #: none: not given
    command: list[str] | None = None
    args: list[str] = field(default_factory=list)
    env: list[Variable] = field(default_factory=list)
    working_dir: str = ""
    #: 0 and less: it is over at once; none: no limit
    timeout_seconds: int | None = None

    @property
    def words(self) -> list[str]:
        """Program and arguments."""
        return [*(self.command or []), *self.args]

    def json(self) -> dict[str, Any]:
        """As it is shown again."""
        shown: dict[str, Any] = {"command": self.command}
        env = [
            {"name": each.name}
            | ({"value": each.value} if each.value else {})
            | ({} if each.value_from is None else {"valueFrom": each.value_from})
            for each in self.env
        ]
        optional = {"args": self.args, "env": env, "workingDir": self.working_dir}
        shown |= {name: value for name, value in optional.items() if value}
        return shown if self.timeout_seconds is None else {**shown, "timeoutSeconds": self.timeout_seconds}


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """A task that a client wants there to be."""

    name: str = ""
    process: Process | None = None
    #: of Kubernetes, as it was sent
    pod_template: dict[str, Any] | None = None
    #: the guide's form of a container, as it was sent
    container: dict[str, Any] | None = None
    #: of the guide's form: beside process or container
    timeout_seconds: int | None = None
    #: it came in the guide's shape, and is shown in that, too
    guide: bool = False


def read_task(body: bytes) -> Asked:
    """The task in a body. Raises InvalidRequest."""
    value = decode(body)
    return Asked() if value is None else _task(value, "Go value")


def read_tasks(body: bytes) -> list[Asked]:
    """The tasks in a body; null is none. Raises InvalidRequest."""
    value = decode(body)
    if value is None:
        return []
    if not isinstance(value, list):
        raise mismatch(value, "Go value", "[]task_executor.Task")
    return [Asked() if each is None else _task(each, "Go value") for each in value]


def _task(value: Any, where: str) -> Asked:
    reads: dict[str, Read] = {
        "name": text,
        "process": _process,
        "podTemplateSpec": mapping("v1.PodTemplateSpec"),
        "spec": _spec,
    }
    found = fields(value, where, "task_executor.Task", reads)
    flat = Asked(
        name=found.get("name", ""), process=found.get("process"), pod_template=found.get("podTemplateSpec")
    )
    spec = found.get("spec")
    if spec is None or flat.process is not None or flat.pod_template is not None:
        return flat
    return replace(
        flat,
        process=_limited(spec.get("process"), spec.get("timeoutSeconds")),
        container=spec.get("container"),
        timeout_seconds=spec.get("timeoutSeconds"),
        guide=True,
    )


def _limited(process: Process | None, seconds: int | None) -> Process | None:
    """With the guide's time limit, where it has none of its own."""
    if process is None or process.timeout_seconds is not None:
        return process
    return replace(process, timeout_seconds=seconds)


def _spec(value: Any, where: str) -> dict[str, Any]:
    reads = {
        "process": lambda value, where: _process(value, where, "spec."),
        "container": mapping("v1.Container"),
        "timeoutSeconds": int64,
    }
    return fields(value, where, "v1alpha1.TaskSpec", reads, "spec.")


def _process(value: Any, where: str, path: str = "") -> Process:
    reads = {
        "command": texts,
        "args": texts,
        "env": lambda value, where: _env(value, where, f"{path}process.env."),
        "workingDir": text,
        "timeoutSeconds": int64,
    }
    found = fields(value, where, "task_executor.Process", reads, f"{path}process.")
    return Process(
        command=found.get("command"),
        args=found.get("args", []),
        env=found.get("env", []),
        working_dir=found.get("workingDir", ""),
        timeout_seconds=found.get("timeoutSeconds"),
    )


def _env(value: Any, where: str, path: str) -> list[Variable]:
    if not isinstance(value, list):
        raise mismatch(value, where, "[]v1.EnvVar")
    reads = {"name": text, "value": text, "valueFrom": mapping("v1.EnvVarSource")}
    found = [{} if each is None else fields(each, where, "v1.EnvVar", reads, path) for each in value]
    return [
        Variable(name=each.get("name", ""), value=each.get("value", ""), value_from=each.get("valueFrom"))
        for each in found
    ]
