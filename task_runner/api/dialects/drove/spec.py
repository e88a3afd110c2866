"""A TaskSpec, read and checked, as a spec of ours.

Drove's own order of checks is kept: first what a request must have, then what the cluster allows. Everything that can
be told at once is told at once.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from task_runner.api.dialects.drove import configs, logspec, placement, resources, volumes
from task_runner.api.dialects.drove.httpcall import NameOf
from task_runner.api.dialects.drove.placement import Policy
from task_runner.api.dialects.drove.reader import EMPTY, Reader
from task_runner.api.dialects.drove.record import DroveRecord
from task_runner.api.dialects.drove.units import Duration
from task_runner.model.codec import to_json
from task_runner.model.walls import Registry

#: ClusterOpSpec
_STRATEGIES = ("STOP", "ROLLBACK")
#: DockerCoordinates.DEFAULT_PULL_TIMEOUT
_PULL = Duration(15, "minute")
#: characters of all arguments, with a blank between two
_MOST_ARGUMENTS = 2048
_NAME = re.compile(r"[a-zA-Z\d\-_]*", re.ASCII)
#: what tags of ours can be
_TAG, _TAG_VALUE = re.compile(r"[^\x00-\x1f\x7f=]{1,100}"), re.compile(r"[^\x00-\x1f\x7f]{0,200}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """What a translation has to know of this server."""

    hostname: str
    #: variables of the daemon that tasks may have
    environ: Mapping[str, str]
    #: finds secrets by their value
    name_of: NameOf
    #: who asks for images, by the name of the registry
    registries: Mapping[str, Registry] = field(default_factory=dict)
    #: fetch images anew each time
    pull_always: bool = True
    #: tasks may have arguments
    arguments: bool = True
    #: there are devices that they may have
    devices: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSpec:
    """A TaskSpec without faults."""

    record: DroveRecord
    policy: Policy
    #: of a task, as `/v1` takes it
    body: dict[str, Any]


def read_operation(reader: Reader) -> tuple[Duration, dict[str, Any]] | None:
    """The time that an operation has, and its opSpec as Drove has it; None after a fault."""
    spec = reader.object("opSpec", missing="must not be null")
    if spec is None:
        return None
    timeout = spec.duration("timeout")
    parallelism = spec.whole("parallelism", 1, 512, default=1)
    strategy = spec.word("failureStrategy", _STRATEGIES)
    if timeout is None or parallelism is None or strategy is None:
        return None
    if not timeout.count:
        spec.fault("timeout", "- must be more than nothing")
        return None
    return timeout, {"timeout": str(timeout), "parallelism": parallelism, "failureStrategy": strategy}


def read_name(reader: Reader, name: str, missing: str) -> str | None:
    """A sourceAppName or a taskId."""
    found = reader.text(name, missing=missing)
    if found is not None and not _NAME.fullmatch(found):
        reader.fault(name, "- Only characters, numbers, hyphen and underscore is allowed")
        return None
    return found


def read(reader: Reader, site: Site, operation: tuple[Duration, dict[str, Any]] | None = None) -> TaskSpec | None:
    """The spec; None after a fault. ``operation``: the one that it is created by, if any."""
    app = read_name(reader, "sourceAppName", "- Source Application name is mandatory")
    task = read_name(reader, "taskId", "- Task ID is mandatory")
    executable = _executable(reader)
    needs, asked = resources.read(reader)
    mounted, files = volumes.read_volumes(reader), configs.read(reader, site.name_of)
    logged, log_fields = logspec.read(reader.object("logging"))
    policy = placement.read(reader.object("placementPolicy"))
    env, args, tags = reader.table("env"), reader.texts("args"), reader.table("tags")
    devices, user = volumes.read_devices(reader), _user(reader)
    _check(reader, args, policy, site)
    if reader.faults or app is None or task is None or executable is None or policy is None:
        return None
    record = DroveRecord(
        source_app_name=app,
        task_id=task,
        instance_id=f"TI-{uuid.uuid4()}",
        executable={"type": "DOCKER", "url": executable[0], "dockerPullTimeout": str(executable[1])},
        resources=asked,
        volumes=mounted,
        configs=[each.json() for each in files],
        logging=logged,
        placement_policy=policy.json(),
        env=env,
        args=args,
        tags=tags,
        devices=devices,
        user_spec=user,
        op_spec=operation[1] if operation is not None else {},
    )
    set_aside, limits = needs.body()
    placed, shown = configs.body(files)
    container = {
        "image": executable[0],
        "pull": _pull(executable[0], site),
        "pullTimeoutSeconds": executable[1].seconds,
        "registry": to_json(site.registries.get(_registry(executable[0]))),
        "env": _environment(record, site),
        "args": args or None,
        "user": None if user is None else ":".join(filter(None, (user["user"], user.get("group")))),
        "workAt": None,
        "mounts": volumes.mounts(mounted),
        "workMounts": shown,
        "devices": volumes.device_list(devices),
        "limits": limits,
    }
    body = {
        "actions": [{"machine": "container", "parameters": container}],
        "name": record.drove_id[:200],
        "alias": record.alias,
        "resources": set_aside,
        "files": placed,
        "tags": _filters(tags),
        "metadata": record.metadata(),
        "startWithinSeconds": operation[0].seconds if operation is not None else None,
        **log_fields,
    }
    return TaskSpec(record=record, policy=policy, body=body)


def _filters(tags: dict[str, str]) -> dict[str, str]:
    """Those that can be filtered by; the others are kept all the same, in the record."""
    fitting = {name: value for name, value in tags.items() if _TAG.fullmatch(name) and _TAG_VALUE.fullmatch(value)}
    return dict(list(fitting.items())[:50])


def _executable(reader: Reader) -> tuple[str, Duration] | None:
    found = reader.object("executable", missing="- Executable details is required")
    if found is None:
        return None
    kind, url = found.word("type", ("DOCKER",), default="DOCKER"), found.text("url", missing=EMPTY)
    patience = found.duration("dockerPullTimeout", default=_PULL)
    if kind is None or url is None or patience is None:
        return None
    if not patience.count:
        found.fault("dockerPullTimeout", "- must be more than nothing")
        return None
    return url, patience


def _user(reader: Reader) -> dict[str, Any] | None:
    found = reader.object("userSpec")
    if found is None:
        return None
    user, group = found.text("user", missing=EMPTY), found.text("group")
    return {"user": user, "group": group} if group else {"user": user}


def _check(reader: Reader, args: list[str], policy: Policy | None, site: Site) -> None:
    """What Drove's controller looks at, in its words."""
    told = reader.faults.values
    if args and not site.arguments:
        told.append("Passing command line to containers is disabled on this cluster")
    elif len(" ".join(args)) > _MOST_ARGUMENTS:
        told.append(f"Maximum combined length of command line arguments can be {_MOST_ARGUMENTS}")
    if reader.get("devices") and not site.devices:
        told.append("Device access is disabled. To enable, set enableRawDeviceAccess: true in controller options.")
    if policy is not None and any(each.type == placement.LOCAL for each in policy.every()):
        told.append("Local service placement is not allowed for tasks")


def _pull(image: str, site: Site) -> str:
    """Drove asks the registry each time. An image with a digest is the same for ever, and those that an engine calls
    `localhost/…` were made here and are in no registry."""
    fixed = "@sha256:" in image or image.startswith("localhost/")
    return "always" if site.pull_always and not fixed else "missing"


def _registry(image: str) -> str:
    """Whose image it is; without a name that of Docker."""
    first, slash, _ = image.partition("/")
    return first if slash and (first == "localhost" or "." in first or ":" in first) else "docker.io"


def _environment(record: DroveRecord, site: Site) -> dict[str, str]:
    """A variable without a value has that of the daemon; where that has none, there is none."""
    env = {"HOST": site.hostname}
    for name, value in record.env.items():
        if given := value or site.environ.get(name):
            env[name] = given
    return {
        **env,
        "DROVE_CONTAINER_ID": record.executable["url"],
        "DROVE_EXECUTOR_HOST": site.hostname,
        "DROVE_TASK_ID": record.task_id,
        "DROVE_INSTANCE_ID": record.instance_id,
        "DROVE_SOURCE_APP_NAME": record.source_app_name,
    }


# -- faults that the core finds, in the words of the request

_PLACES: list[tuple[str, str]] = [
    (r"actions\.0\.parameters\.(image|registry.*)", "executable.url"),
    (r"actions\.0\.parameters\.pullTimeoutSeconds", "executable.dockerPullTimeout"),
    (r"actions\.0\.(machine|parameters\.(engine|network))", "executable"),
    (r"actions\.0\.parameters\.mounts\.(\d+)\.source", r"volumes[\1].pathOnHost"),
    (r"actions\.0\.parameters\.mounts\.(\d+)(\.target)?", r"volumes[\1].pathInContainer"),
    (r"actions\.0\.parameters\.mounts", "volumes"),
    (r"actions\.0\.parameters\.workMounts\.(\d+).*", r"configs[\1].localFilename"),
    (r"actions\.0\.parameters\.devices\.(\d+)(\.path)?", r"devices[\1].pathOnHost"),
    (r"actions\.0\.parameters\.devices\.(\d+)\.target", r"devices[\1].pathInContainer"),
    (r"actions\.0\.parameters\.args\.(\d+)", r"args[\1]"),
    (r"actions\.0\.parameters\.env\.(.+)", r"env.\1"),
    (r"actions\.0\.parameters\.user", "userSpec"),
    (r"files\.(\d+)\.base64", r"configs[\1].data"),
    (r"files\.(\d+)\.hostPath", r"configs[\1].filePathOnHost"),
    (r"files\.(\d+)\.fetch\.body", r"configs[\1].http.payload"),
    (r"files\.(\d+)\.fetch\.(connect|timeout)Seconds", r"configs[\1].http"),
    (r"files\.(\d+)\.fetch\.(headers|headerSecrets)\.(.+)", r"configs[\1].http.headers.\3"),
    (r"files\.(\d+)\.fetch(\..*)?", r"configs[\1].http"),
    (r"files\.(\d+)(\..*)?", r"configs[\1]"),
    (r"(actions\.0\.parameters\.limits|resources).*", "resources"),
    (r"logging\.(tagPrefix|tagSuffix)", r"logging.\1"),
    (r"logging.*", "logging.server"),
    (r"maxOutputBytes", "logging.maxSize"),
    (r"alias|name", "taskId"),
    (r"metadata.*", ""),
]


def place_of(field: str, at: str) -> str:
    """Where in a request a field of ours comes from. ``at``: where the TaskSpec stands in it."""
    if field == "startWithinSeconds":
        return "opSpec.timeout"
    for pattern, theirs in _PLACES:
        if found := re.fullmatch(pattern, field):
            place = found.expand(theirs)
            return ".".join(filter(None, (at, place))) or "spec"
    return at or "spec"


def fault_of(field: str, message: str, at: str, record: DroveRecord, free: Mapping[str, Any]) -> str:
    """A fault that the core has found, as Drove tells it where it has words for it. ``free``: what the node has."""
    if found := re.fullmatch(r"actions\.0\.parameters\.mounts\.(\d+)\.source", field):
        path = record.volumes[int(found[1])]["pathOnHost"]
        known = f"Volume mount requested on non whitelisted host directory: {path}"
        return known if "mount below these directories" in message else f"{known} - {message}"
    if field == "resources.cpus":
        return _scarce("CPU", record, "CPU", "count", free["cpus"])
    if field == "resources.memoryMb":
        return _scarce("Memory", record, "MEMORY", "sizeInMB", free["memoryMb"])
    return f"{place_of(field, at)} - {message}"


def _scarce(what: str, record: DroveRecord, kind: str, field: str, available: float | None) -> str:
    required = sum(each[field] for each in record.resources if each["type"] == kind)
    return f"Cluster does not have enough {what}. Required: {required} Available: {int(available or 0)}"
