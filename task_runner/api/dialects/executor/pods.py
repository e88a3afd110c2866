"""Container mode: from a pod template, or the usage guide's container, to the body of a task (POST /v1/tasks).

Init containers are steps before the container. What this machine cannot do as Kubernetes would is refused, and what
only says where a pod should run, or how it should be found, has been settled when it comes here.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import Any

from task_runner.api.dialects.executor.kubernetes import Part, expand
from task_runner.api.dialects.executor.volumes import Volumes, mounts, volumes_of
from task_runner.errors import FieldError, InvalidRequest
from task_runner.service.settings import Settings

TEMPLATE, CONTAINER = "podTemplateSpec", "spec.container"
#: seconds that Kubernetes gives a pod to end
_GRACE = 30
_MB = 2**20
#: of a user or group, in Kubernetes
_LARGEST_ID = 2**31 - 1
_PULL = {"Always": "always", "IfNotPresent": "missing", "Never": "never"}
_NO_CLUSTER = "there is no cluster here to ask; give the value itself"
_NOBODY_ASKS = "nobody asks a task how it is; its exit code says how it ended"
#: why a field is refused
_POD = {
    "restartPolicy": "a task runs once: say Never, or nothing",
    "imagePullSecrets": _NO_CLUSTER,
    "serviceAccountName": "there is no cluster here that would know it",
    "hostPID": "a container has processes of its own",
    "hostIPC": "a container has its own",
    "shareProcessNamespace": "there is one container at a time, with processes of its own",
    "ephemeralContainers": "a task has one container at a time",
}
_ONE = {
    "envFrom": _NO_CLUSTER,
    "livenessProbe": _NOBODY_ASKS,
    "readinessProbe": _NOBODY_ASKS,
    "startupProbe": _NOBODY_ASKS,
    "lifecycle": "nothing is run beside a container; put it into the command",
    "restartPolicy": "a task runs once, and its containers one after the other",
    "stdin": "nobody writes to it: its standard input is empty",
    "tty": "it has none: its output is kept as it is written",
    "volumeDevices": "only directories are shown inside; see container_devices for tasks of /v1",
}
_SECURITY = {
    "privileged": "no task's container is",
    "readOnlyRootFilesystem": "cannot be had here",
    "capabilities": "are those that the engine gives",
    "seccompProfile": "is the engine's own (RuntimeDefault)",
    "fsGroup": "an emptyDir can be written to by every user anyway",
}
#: our fields, as Kubernetes calls them
_THEIRS = {
    "parameters.limits.memoryMb": "resources.limits.memory",
    "parameters.limits.cpus": "resources.limits.cpu",
    "parameters.mounts": "volumeMounts",
    "parameters.workMounts": "volumeMounts",
    "parameters.workingDirectory": "workingDir",
    "parameters.pull": "imagePullPolicy",
    "parameters.user": "securityContext.runAsUser",
    "parameters.network": "hostNetwork",
    "machine": "image",
}
_OF_POD = {"timeoutSeconds": "activeDeadlineSeconds", "graceSeconds": "terminationGracePeriodSeconds"}


def spec_of_pod(name: str, template: dict[str, Any], settings: Settings) -> dict[str, Any]:
    """The body of a task for a PodTemplateSpec. Raises InvalidRequest, whose fields are those of the template."""
    faults = _start(TEMPLATE, settings)
    top = Part(template, TEMPLATE, faults)
    top.idle("metadata")  # for the cluster; it is kept with the request
    pod = top.part("spec")
    top.close({})
    volumes = volumes_of(pod.parts("volumes"))
    security = _security(pod.part("securityContext"), (None, None))
    network = {"network": "host"} if pod.take("hostNetwork", bool) else {}
    steps = [_step(each, volumes, security, network) for each in [*pod.parts("initContainers"), *_main(pod)]]
    seconds = pod.take("activeDeadlineSeconds", int)
    grace = pod.take("terminationGracePeriodSeconds", int)
    pod.only("restartPolicy", "Never")
    pod.only("serviceAccountName", "default")
    pod.only("serviceAccount", "default")
    pod.idle(
        "affinity", "dnsPolicy", "enableServiceLinks", "nodeName", "nodeSelector", "preemptionPolicy", "priority",
        "priorityClassName", "schedulerName", "schedulingGates", "tolerations", "topologySpreadConstraints",
    )  # fmt: skip
    pod.close(_POD)
    if faults:
        raise InvalidRequest(fields=faults)
    body = _body(name, steps, seconds)
    return {**body, "graceSeconds": _GRACE if grace is None else grace}


def spec_of_container(
    name: str, container: dict[str, Any], timeout_seconds: int | None, settings: Settings
) -> dict[str, Any]:
    """The body of a task for the usage guide's `spec.container`. Raises InvalidRequest."""
    faults = _start(CONTAINER, settings)
    step = _step(Part(container, CONTAINER, faults), {}, (None, None), {})
    if faults:
        raise InvalidRequest(fields=faults)
    return _body(name, [step], timeout_seconds)


def in_their_words(error: InvalidRequest, template: dict[str, Any] | None) -> InvalidRequest:
    """A refusal of the body with fields as the client has them; ``template``: none where it is the guide's."""
    faults = [FieldError(_theirs(fault.field, template), fault.message) for fault in error.fields]
    return InvalidRequest(fields=faults) if faults else error


def _theirs(field: str, template: dict[str, Any] | None) -> str:
    if field.startswith((f"{TEMPLATE}.", f"{CONTAINER}.")):
        return field
    found = re.fullmatch(r"actions\.([0-9]+)\.?(.*)", field)
    if found is None:
        if field == "alias":
            return "name"
        return f"spec.{field}" if template is None else f"{TEMPLATE}.spec.{_OF_POD.get(field, field)}"
    index, rest = int(found[1]), found[2]
    for ours, other in _THEIRS.items():
        if rest == ours or rest.startswith(f"{ours}."):
            rest = other
            break
    rest = f".{rest.removeprefix('parameters.')}" if rest else ""
    if template is None:
        return f"{CONTAINER}{rest}"
    inits = len(Part(template, "", []).part("spec").take("initContainers", list) or [])
    where = f"initContainers.{index}" if index < inits else f"containers.{index - inits}"
    return f"{TEMPLATE}.spec.{where}{rest}"


def _start(where: str, settings: Settings) -> list[FieldError]:
    if not settings.executor_containers:
        raise InvalidRequest.at(where, "container mode is switched off here (executor_containers)")
    return []


def _main(pod: Part) -> list[Part]:
    found = pod.parts("containers")
    if len(found) != 1:
        pod.fault("containers", f"a task has one container, beside those that run before it; there are {len(found)}")
    return found


def _body(name: str, steps: list[_Step], seconds: int | None) -> dict[str, Any]:
    requests = {
        key: max(found)
        for key in ("cpus", "memoryMb")
        if (found := [step.requests[key] for step in steps if key in step.requests])
    }
    return {
        "name": name[:200],
        "actions": [step.action for step in steps],
        "outputMode": "separate",
        **({"timeoutSeconds": seconds} if seconds is not None else {}),
        **({"resources": requests} if requests else {}),
    }


# -- one container


class _Step:
    """A container as an action, and what should be set aside for it."""

    __slots__ = ("action", "requests")

    def __init__(self, action: dict[str, Any], requests: dict[str, Any]) -> None:
        self.action = action
        self.requests = requests


_Ids = tuple[int | None, int | None]


def _step(part: Part, volumes: Volumes, pod: _Ids, network: dict[str, Any]) -> _Step:
    name, image = part.take("name", str), part.need("image")
    env = _env(part.parts("env"))
    resources = part.part("resources")
    limits, requests = _amounts(resources.part("limits")), _amounts(resources.part("requests"))
    resources.close({})
    user, group = _security(part.part("securityContext"), pod)
    parameters: dict[str, Any] = {"image": image, "workAt": None, "pull": _pull(part, image), **network}
    optional = {
        "command": [expand(each, env) for each in part.texts("command")],
        "args": [expand(each, env) for each in part.texts("args")],
        "env": env,
        "workingDirectory": part.take("workingDir", str),
        "user": None if user is None else str(user) if group is None else f"{user}:{group}",
        "limits": limits,
        **mounts(part.parts("volumeMounts"), volumes),
    }
    parameters |= {key: value for key, value in optional.items() if value}
    part.idle("ports", "resizePolicy", "stdinOnce", "terminationMessagePath", "terminationMessagePolicy")
    part.close(_ONE)
    action = {"machine": "container", "parameters": parameters, **({"name": name} if name else {})}
    return _Step(action, requests)


def _env(parts: list[Part]) -> dict[str, str]:
    env: dict[str, str] = {}
    for each in parts:
        name, value = each.need("name"), each.take("value", str)
        if name is not None:
            env[name] = expand(value or "", env)
        each.close({"valueFrom": _NO_CLUSTER})
    return env


def _amounts(part: Part) -> dict[str, Any]:
    """Processors, and memory in MiB, of which a part counts as a whole one."""
    cpus, memory = part.number("cpu"), part.number("memory")
    for name in part.names():
        part.fault(name, "cpu and memory are counted here, and nothing else")
    found: dict[str, Any] = {} if cpus is None else {"cpus": float(cpus)}
    return found if memory is None else {**found, "memoryMb": math.ceil(memory / Decimal(_MB))}


def _pull(part: Part, image: str | None) -> str:
    policy = part.take("imagePullPolicy", str)
    if policy is None:
        _registry, _slash, last = (image or "").rpartition("/")
        latest = "@" not in last and last.partition(":")[2] in ("", "latest")
        policy = "Always" if latest else "IfNotPresent"
    if policy not in _PULL:
        part.fault("imagePullPolicy", f"there are {', '.join(_PULL)}")
    return _PULL.get(policy, "missing")


def _security(part: Part, above: _Ids) -> _Ids:
    """User and group, by number; ``above``: those of the pod."""
    user, group = _id(part, "runAsUser"), _id(part, "runAsGroup")
    user, group = (above[0] if user is None else user), (above[1] if group is None else group)
    if part.take("runAsNonRoot", bool) and not user:
        part.fault("runAsNonRoot", "whom the image runs as is not known before: say in runAsUser who it is to be")
    if group is not None and user is None:
        part.fault("runAsGroup", "needs runAsUser beside it")
    part.only("seccompProfile", {"type": "RuntimeDefault"})
    part.idle("allowPrivilegeEscalation")  # it never is
    part.close(_SECURITY)
    return user, group


def _id(part: Part, name: str) -> int | None:
    found: int | None = part.take(name, int)
    if found is None or 0 <= found <= _LARGEST_ID:
        return found
    part.fault(name, f"expected a number from 0 to {_LARGEST_ID}")
    return None
