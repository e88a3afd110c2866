"""Container mode of the task-executor's dialect: pod templates and the guide's containers, as tasks and in Podman."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from conftest import Daemon, wait_for
from dialectclient import DialectClient
from engines import Server
from images import BUSYBOX_IMAGE

from task_runner.api.dialects.executor.kubernetes import expand, quantity
from task_runner.api.dialects.executor.pods import in_their_words, spec_of_container, spec_of_pod
from task_runner.api.dialects.executor.podstatus import pod_status
from task_runner.errors import FieldError, InvalidRequest
from task_runner.model.state import Outcome, State
from task_runner.model.status import ActionStatus, ContainerNote, Heartbeat, Identity, Status
from task_runner.service.settings import Settings
from task_runner.service.task import Record, Task
from task_runner.service.validate import parse_spec

SETTINGS = Settings(state_dir="/nowhere")


def template(container: dict[str, Any] | None = None, **pod: Any) -> dict[str, Any]:
    return {"spec": {"containers": [{"name": "main", "image": "busybox:1", **(container or {})}], **pod}}


def body(container: dict[str, Any] | None = None, **pod: Any) -> dict[str, Any]:
    found = spec_of_pod("job-0", template(container, **pod), SETTINGS)
    parse_spec(found)  # it is one that /v1 takes
    return found


def parameters(container: dict[str, Any] | None = None, **pod: Any) -> dict[str, Any]:
    return dict(body(container, **pod)["actions"][-1]["parameters"])


def faults(container: dict[str, Any] | None = None, **pod: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as refused:
        spec_of_pod("job-0", template(container, **pod), SETTINGS)
    return {each.field.removeprefix("podTemplateSpec.spec."): each.message for each in refused.value.fields}


# -- from a template to a task


def test_a_pod_of_one_container_is_a_task_of_one_action():
    assert body() == {
        "name": "job-0",
        "actions": [
            {"machine": "container", "name": "main", "parameters": {"image": "busybox:1", "workAt": None, "pull": "missing"}}
        ],
        "outputMode": "separate",
        "graceSeconds": 30,
    }


def test_init_containers_are_steps_before_it():
    found = body(initContainers=[{"name": "one", "image": "a:1"}, {"name": "two", "image": "b:1", "command": ["x"]}])
    assert [each["name"] for each in found["actions"]] == ["one", "two", "main"]
    assert found["actions"][1]["parameters"]["command"] == ["x"]


def test_the_fields_of_a_container():
    found = parameters(
        {
            "command": ["sh", "-c"],
            "args": ["echo $(GREETING) $$(GREETING) $(NOBODY)"],
            "env": [{"name": "WHO", "value": "world"}, {"name": "GREETING", "value": "hello $(WHO)"}, {"name": "EMPTY"}],
            "workingDir": "/srv",
            "imagePullPolicy": "Always",
            "securityContext": {"runAsUser": 1000, "runAsGroup": 0, "allowPrivilegeEscalation": False, "privileged": False},
            "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}},
            "ports": [{"containerPort": 80}],
            "terminationMessagePath": "/dev/termination-log",
            "stdin": False,
        }
    )
    assert found == {
        "image": "busybox:1",
        "workAt": None,
        "pull": "always",
        "command": ["sh", "-c"],
        "args": ["echo hello world $(GREETING) $(NOBODY)"],
        "env": {"WHO": "world", "GREETING": "hello world", "EMPTY": ""},
        "workingDirectory": "/srv",
        "user": "1000:0",
        "limits": {"cpus": 0.5, "memoryMb": 64},
    }


@pytest.mark.parametrize(
    ("image", "pull"),
    [("ubuntu", "always"), ("ubuntu:latest", "always"), ("ubuntu:22.04", "missing"), ("r:5000/ubuntu", "always"), ("u@sha256:1", "missing")],
)
def test_without_a_policy_an_image_is_fetched_as_in_kubernetes(image: str, pull: str):
    assert spec_of_pod("x", template({"image": image}), SETTINGS)["actions"][0]["parameters"]["pull"] == pull


def test_the_user_of_the_pod_is_that_of_its_containers():
    assert parameters(securityContext={"runAsUser": 5})["user"] == "5"
    assert parameters({"securityContext": {"runAsUser": 6}}, securityContext={"runAsUser": 5, "runAsGroup": 7})["user"] == "6:7"
    assert parameters(securityContext={"runAsUser": 5, "runAsNonRoot": True})["user"] == "5"


def test_the_network_of_the_pod():
    assert parameters(hostNetwork=True)["network"] == "host"
    assert "network" not in parameters(hostNetwork=False)


def test_volumes_are_directories_of_this_machine_or_of_the_task():
    found = parameters(
        {"volumeMounts": [
            {"name": "host", "mountPath": "/host", "readOnly": True},
            {"name": "scratch", "mountPath": "/scratch"},
            {"name": "other", "mountPath": "/other", "mountPropagation": "None"},
        ]},
        volumes=[
            {"name": "host", "hostPath": {"path": "/srv/data", "type": ""}},
            {"name": "scratch", "emptyDir": {}},
            {"name": "other", "emptyDir": None},
            {"name": "unused", "hostPath": {"path": "/", "type": "Directory"}},
        ],
    )  # fmt: skip
    assert found["mounts"] == [{"source": "/srv/data", "target": "/host", "readOnly": True}]
    assert found["workMounts"] == [
        {"path": "volumes/scratch", "makeDirectory": True, "target": "/scratch"},
        {"path": "volumes/other", "makeDirectory": True, "target": "/other"},
    ]


def test_times_and_amounts_of_the_pod_are_those_of_the_task():
    found = body(
        {"resources": {"requests": {"cpu": 2, "memory": "1Gi"}}},
        activeDeadlineSeconds=60,
        terminationGracePeriodSeconds=0,
        initContainers=[{"image": "a:1", "resources": {"requests": {"cpu": "100m", "memory": "2G"}}}],
    )
    assert (found["timeoutSeconds"], found["graceSeconds"]) == (60, 0)
    assert found["resources"] == {"cpus": 2.0, "memoryMb": 1908}


def test_what_is_for_the_scheduler_alone_changes_nothing():
    plain = body()
    assert body(nodeSelector={"a": "b"}, tolerations=[{"operator": "Exists"}], restartPolicy="Never", dnsPolicy="ClusterFirst") == plain
    assert spec_of_pod("job-0", {"metadata": {"labels": {"a": "b"}}, **template()}, SETTINGS) == plain


def test_keys_are_matched_whatever_their_case_and_null_is_nothing():
    asked = {"Spec": {"CONTAINERS": [{"Name": "main", "Image": "busybox:1", "Args": None, "env": []}], "volumes": None}}
    assert spec_of_pod("job-0", asked, SETTINGS) == body()


def test_the_guides_container_is_a_task():
    asked = {"image": "ubuntu:latest", "command": ["/bin/bash", "-c"], "args": ["true"], "env": [{"name": "A", "value": "b"}]}
    assert spec_of_container("x", asked, 5, SETTINGS) == {
        "name": "x",
        "actions": [
            {"machine": "container", "parameters": {
                "image": "ubuntu:latest", "workAt": None, "pull": "always", "command": ["/bin/bash", "-c"],
                "args": ["true"], "env": {"A": "b"},
            }}
        ],
        "outputMode": "separate",
        "timeoutSeconds": 5,
    }  # fmt: skip


# -- what is refused

REFUSED: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({"image": ""}, {}, "containers.0.image", "is needed"),
    ({"image": 5}, {}, "containers.0.image", "expected a text"),
    ({"command": "ls"}, {}, "containers.0.command", "expected a list"),
    ({"args": [1]}, {}, "containers.0.args", "expected a list of texts"),
    ({"env": [{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "x"}}}]}, {}, "containers.0.env.0.valueFrom", "no cluster"),
    ({"env": [{"value": "x"}]}, {}, "containers.0.env.0.name", "is needed"),
    ({"envFrom": [{"configMapRef": {"name": "x"}}]}, {}, "containers.0.envFrom", "no cluster"),
    ({"livenessProbe": {"exec": {}}}, {}, "containers.0.livenessProbe", "exit code"),
    ({"lifecycle": {"preStop": {"exec": {}}}}, {}, "containers.0.lifecycle", "put it into the command"),
    ({"tty": True}, {}, "containers.0.tty", "kept as it is written"),
    ({"invented": 1}, {}, "containers.0.invented", "not supported"),
    ({"imagePullPolicy": "Sometimes"}, {}, "containers.0.imagePullPolicy", "Always, IfNotPresent, Never"),
    ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, {}, "containers.0.resources.limits.nvidia.com/gpu", "cpu and memory"),
    ({"resources": {"limits": {"memory": "lots"}}}, {}, "containers.0.resources.limits.memory", "no quantity"),
    ({"resources": {"claims": [{"name": "x"}]}}, {}, "containers.0.resources.claims", "not supported"),
    ({"securityContext": {"privileged": True}}, {}, "containers.0.securityContext.privileged", "no task"),
    ({"securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}, {}, "containers.0.securityContext.capabilities", "engine"),
    ({"securityContext": {"readOnlyRootFilesystem": True}}, {}, "containers.0.securityContext.readOnlyRootFilesystem", "cannot"),
    ({"securityContext": {"runAsGroup": 5}}, {}, "containers.0.securityContext.runAsGroup", "runAsUser"),
    ({"securityContext": {"runAsNonRoot": True}}, {}, "containers.0.securityContext.runAsNonRoot", "runAsUser"),
    ({"volumeMounts": [{"name": "x", "mountPath": "/x"}]}, {}, "containers.0.volumeMounts.0.name", "no volume 'x'"),
    ({"volumeMounts": [{"name": "v"}]}, {"volumes": [{"name": "v"}]}, "containers.0.volumeMounts.0.mountPath", "is needed"),
    (
        {"volumeMounts": [{"name": "v", "mountPath": "/x", "subPath": "a"}]},
        {"volumes": [{"name": "v"}]},
        "containers.0.volumeMounts.0.subPath",
        "the directory itself",
    ),
    ({}, {"volumes": [{"name": "v", "configMap": {"name": "x"}}]}, "volumes.0.configMap", "emptyDir and hostPath"),
    ({}, {"volumes": [{"name": "../v"}]}, "volumes.0.name", "small letters"),
    ({}, {"volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}]}, "volumes.0.emptyDir.medium", "on the disk"),
    ({}, {"volumes": [{"name": "v", "emptyDir": {"sizeLimit": "1Gi"}}]}, "volumes.0.emptyDir.sizeLimit", "enforced"),
    ({}, {"volumes": [{"name": "v", "hostPath": {"path": "/x", "type": "DirectoryOrCreate"}}]}, "volumes.0.hostPath.type", "made"),
    ({}, {"volumes": [{"name": "v", "hostPath": {"type": "File"}}]}, "volumes.0.hostPath.path", "is needed"),
    # an empty object is a kind of volume all the same
    ({}, {"volumes": [{"name": "v", "hostPath": {}}]}, "volumes.0.hostPath.path", "is needed"),
    ({}, {"volumes": [{"name": "v", "secret": {}}]}, "volumes.0.secret", "emptyDir and hostPath"),
    ({}, {"volumes": [{"name": "v"}, {"name": "v", "emptyDir": {}}]}, "volumes.1.name", "twice"),
    ({"resources": {"limits": {"cpu": "7" * 5000}}}, {}, "containers.0.resources.limits.cpu", "no quantity"),
    ({"securityContext": {"runAsUser": -1}}, {}, "containers.0.securityContext.runAsUser", "from 0 to 2147483647"),
    ({}, {"securityContext": {"runAsUser": 0, "runAsGroup": 2**31}}, "securityContext.runAsGroup", "from 0 to 2147483647"),
    ({}, {"restartPolicy": "Always"}, "restartPolicy", "runs once"),
    ({}, {"imagePullSecrets": [{"name": "x"}]}, "imagePullSecrets", "no cluster"),
    ({}, {"hostPID": True}, "hostPID", "of its own"),
    ({}, {"serviceAccountName": "admin"}, "serviceAccountName", "no cluster"),
    ({}, {"activeDeadlineSeconds": "60"}, "activeDeadlineSeconds", "whole number"),
    ({}, {"initContainers": [{"image": "a:1", "restartPolicy": "Always"}]}, "initContainers.0.restartPolicy", "one after the other"),
    ({}, {"securityContext": {"sysctls": [{"name": "x"}]}}, "securityContext.sysctls", "not supported"),
]  # fmt: skip


@pytest.mark.parametrize(("container", "pod", "field", "reason"), REFUSED, ids=[each[2] for each in REFUSED])
def test_what_cannot_be_had_is_refused_with_its_reason(container: dict[str, Any], pod: dict[str, Any], field: str, reason: str):
    found = faults(container, **pod)
    assert list(found) == [field]
    assert reason in found[field]


@pytest.mark.parametrize("count", [0, 2])
def test_a_pod_has_one_container(count: int):
    with pytest.raises(InvalidRequest, match=f"one container.*there are {count}"):
        spec_of_pod("x", {"spec": {"containers": [{"name": "a", "image": "a:1"}] * count}}, SETTINGS)


def test_a_volume_has_one_kind():
    found = faults(volumes=[{"name": "v", "emptyDir": {}, "hostPath": {"path": "/srv/data"}}])
    assert list(found) == ["volumes.0.emptyDir", "volumes.0.hostPath"]


def test_every_fault_is_told():
    assert set(faults({"tty": True, "image": None}, hostPID=True)) == {"containers.0.tty", "containers.0.image", "hostPID"}


def test_the_guides_volume_mounts_have_no_volumes():
    with pytest.raises(InvalidRequest, match=r"spec.container.volumeMounts.0.name: there is no volume 'data-volume'"):
        spec_of_container("x", {"image": "a:1", "volumeMounts": [{"name": "data-volume", "mountPath": "/data"}]}, None, SETTINGS)


def test_container_mode_can_be_switched_off():
    off = Settings(state_dir="/nowhere", executor_containers=False)
    with pytest.raises(InvalidRequest, match=r"podTemplateSpec: .*executor_containers"):
        spec_of_pod("x", template(), off)
    with pytest.raises(InvalidRequest, match=r"spec.container: .*executor_containers"):
        spec_of_container("x", {"image": "a:1"}, None, off)


@pytest.mark.parametrize(
    ("ours", "other"),
    [
        ("actions.0.parameters.image", "podTemplateSpec.spec.initContainers.0.image"),
        ("actions.1.parameters.limits.memoryMb", "podTemplateSpec.spec.containers.0.resources.limits.memory"),
        ("actions.1.parameters.mounts.0.source", "podTemplateSpec.spec.containers.0.volumeMounts"),
        ("actions.1.machine", "podTemplateSpec.spec.containers.0.image"),
        ("actions.1.parameters.env.A", "podTemplateSpec.spec.containers.0.env.A"),
        ("timeoutSeconds", "podTemplateSpec.spec.activeDeadlineSeconds"),
        ("resources.cpus", "podTemplateSpec.spec.resources.cpus"),
        ("alias", "name"),
    ],
)
def test_what_the_core_refuses_is_told_in_the_clients_fields(ours: str, other: str):
    asked = template(initContainers=[{"image": "a:1"}])
    error = in_their_words(InvalidRequest(fields=[FieldError(ours, "no")]), asked)
    assert error.fields == [FieldError(other, "no")]


def test_of_the_guides_container_too():
    error = in_their_words(InvalidRequest(fields=[FieldError("actions.0.parameters.pull", "no"), FieldError("timeoutSeconds", "no")]), None)
    assert [each.field for each in error.fields] == ["spec.container.imagePullPolicy", "spec.timeoutSeconds"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", "1"), (2, "2"), (1.5, "1.5"), ("500m", "0.5"), ("1e3", "1000"), ("64Mi", str(64 * 2**20)), ("2k", "2000"), ("1E", "1e18"), ("100n", "1e-7")],
)
def test_quantities(text: Any, value: str):
    assert quantity(text) == Decimal(value)


@pytest.mark.parametrize("text", ["", "x", "1Kb", "1 Gi", "1..2", True, "∞"])
def test_what_is_no_quantity(text: Any):
    with pytest.raises(ValueError, match="no quantity"):
        quantity(text)


def test_references_to_variables():
    assert expand("$(A)$(B) $$(A) $$$(A) $A ${A} $(", {"A": "1"}) == "1$(B) $(A) $1 $A ${A} $("


# -- from a task to a PodStatus

T0, T1, T2 = "2025-01-01T00:00:00.100Z", "2025-01-01T00:00:01.200Z", "2025-01-01T00:00:02.300Z"


def task(state: State, *actions: ActionStatus, outcome: Outcome | None = None, at: int = 0, error: str | None = None, **asked: Any) -> Task:
    spec = spec_of_pod("x", template(**asked), SETTINGS)
    status = Status(
        task_id="1", runner=Identity(pid=1, start_time=1, boot_id="b"), state=state, current_action_idx=at,
        started_at=T1, heartbeat=Heartbeat(at=T1, monotonic=1.0), actions=list(actions),
    )  # fmt: skip
    record = Record(state=state, outcome=outcome, created_at=T0, status=status if actions else None, error=error, finished_at=T2 if outcome else None)
    return Task(id="1", seq=1, spec_json=json.dumps(spec), name=None, tags={}, record=record)


def step(state: str, index: int = 0, **known: Any) -> ActionStatus:
    begun = {"started_at": T1, "tries": 1} if state != "pending" else {}
    note = ContainerNote(engine="podman", name="n", id="c1", image="busybox:1", image_id="sha256:1", stage=known.pop("stage", "running"))
    return ActionStatus(index=index, machine="container", state=state, **{"container": note if begun else None, **begun, **known})


def shown(state: dict[str, Any], *, ready: bool = False, known: bool = True, name: str = "main") -> dict[str, Any]:
    made = {"imageID": "sha256:1", "containerID": "podman://c1"} if known else {"imageID": ""}
    return {
        "name": name, "state": state, "lastState": {}, "ready": ready, "restartCount": 0, "image": "busybox:1", **made, "started": ready
    }  # fmt: skip


def conditions(ready: str, at: str) -> list[dict[str, Any]]:
    return [{"type": kind, "status": ready, "lastProbeTime": None, "lastTransitionTime": at} for kind in ("Ready", "ContainersReady")]


def test_a_pod_that_waits():
    assert pod_status(task(State.PENDING)) == {
        "phase": "Pending",
        "conditions": conditions("False", "2025-01-01T00:00:00Z"),
        "containerStatuses": [shown({"waiting": {"reason": "ContainerCreating"}}, known=False)],
    }


def test_a_pod_that_runs():
    assert pod_status(task(State.RUNNING, step("running"))) == {
        "phase": "Running",
        "conditions": conditions("True", "2025-01-01T00:00:01Z"),
        "startTime": "2025-01-01T00:00:01Z",
        "containerStatuses": [shown({"running": {"startedAt": "2025-01-01T00:00:01Z"}}, ready=True)],
    }


def terminated(**told: Any) -> dict[str, Any]:
    return {"terminated": {**told, "startedAt": "2025-01-01T00:00:01Z", "finishedAt": "2025-01-01T00:00:02Z"}}


def test_a_pod_whose_image_is_fetched():
    found = pod_status(task(State.PROVISIONING, step("running", stage="fetching")))
    assert (found["phase"], found["containerStatuses"][0]["state"]) == ("Pending", {"waiting": {"reason": "ContainerCreating"}})


def test_a_pod_in_the_middle_of_its_init_containers():
    found = pod_status(
        task(State.RUNNING, step("exited", 0, exit_code=0, finished_at=T2), step("running", 1), step("pending", 2), at=1,
             initContainers=[{"name": "a", "image": "busybox:1"}, {"name": "b", "image": "busybox:1"}])
    )  # fmt: skip
    assert found["phase"] == "Pending"
    assert found["conditions"][0]["status"] == "False"
    assert found["initContainerStatuses"] == [
        shown(terminated(exitCode=0, reason="Completed"), name="a"),
        shown({"running": {"startedAt": "2025-01-01T00:00:01Z"}}, ready=True, name="b"),
    ]
    assert found["containerStatuses"] == [shown({"waiting": {"reason": "PodInitializing"}}, known=False)]


@pytest.mark.parametrize(
    ("known", "outcome", "phase", "state"),
    [
        ({"exit_code": 0}, Outcome.SUCCEEDED, "Succeeded", {"exitCode": 0, "reason": "Completed"}),
        ({"exit_code": 7}, Outcome.FAILED, "Failed", {"exitCode": 7, "reason": "Error"}),
        ({"signal": "SIGKILL", "oom_killed": True}, Outcome.FAILED, "Failed", {"exitCode": 137, "signal": 9, "reason": "OOMKilled"}),
        ({"signal": "SIGTERM"}, Outcome.CANCELLED, "Failed", {"exitCode": 143, "signal": 15, "reason": "Error"}),
        ({"error": "no such image", "outcome": Outcome.FAILED, "stage": "unfetched"}, Outcome.FAILED, "Failed",
         {"exitCode": 128, "reason": "ErrImagePull", "message": "no such image"}),
        ({"error": "no such file", "outcome": Outcome.FAILED, "stage": "unstarted"}, Outcome.FAILED, "Failed",
         {"exitCode": 128, "reason": "StartError", "message": "no such file"}),
        ({"error": "nobody saw", "outcome": Outcome.LOST}, Outcome.LOST, "Failed",
         {"exitCode": 137, "reason": "ContainerStatusUnknown", "message": "nobody saw"}),
    ],
)  # fmt: skip
def test_how_a_pod_ended(known: dict[str, Any], outcome: Outcome, phase: str, state: dict[str, Any]):
    found = pod_status(task(State.EXITED, step("exited", finished_at=T2, **known), outcome=outcome))
    assert found["phase"] == phase
    assert found["containerStatuses"] == [shown(terminated(**state))]
    assert found["conditions"] == conditions("False", "2025-01-01T00:00:02Z")


def test_a_pod_that_took_too_long():
    found = pod_status(task(State.EXITED, step("exited", exit_code=143, finished_at=T2), outcome=Outcome.TIMED_OUT, error="too long"))
    assert (found["phase"], found["reason"], found["message"]) == ("Failed", "DeadlineExceeded", "too long")


# -- in a real engine

engine = pytest.mark.needs("root", "podman", "runc")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("place")
    directory.chmod(0o755)
    (directory / "file").write_text("of this machine\n")
    return directory


@pytest.fixture(scope="module")
def dock(podman_server: Server, place: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    daemon = Daemon(
        tmp_path_factory.mktemp("dock") / "state",
        dialects=["executor"],
        engines=podman_server.sockets,
        container_networks=["none", "host"],
        container_mounts=[f"{place}:ro"],
    )
    try:
        yield daemon.start()
        wait_for(lambda: not podman_server.containers_of(daemon.state_dir), "no container is left")
    finally:
        daemon.close()


@pytest.fixture
def client(dock: Daemon) -> DialectClient:
    return DialectClient(dock, {"Authorization": "Bearer {token}"})


def ended(client: DialectClient, name: str) -> dict[str, Any]:
    return dict(
        wait_for(lambda: (t := client.get(f"/tasks/{name}").json())["processStatus"].get("terminated") and t, f"{name} is over")
    )


def output(client: DialectClient, name: str) -> str:
    (found,) = [each["taskId"] for each in client.get("/v1/tasks").json() if each["name"] == name]
    return client.get(f"/v1/tasks/{found}/output", params={"stream": "stdout"}).text


def post(client: DialectClient, name: str, container: dict[str, Any], **pod: Any) -> Any:
    asked = template({"image": BUSYBOX_IMAGE, **container}, **pod)
    return client.post("/tasks", {"name": name, "podTemplateSpec": asked})


@engine
def test_a_pod_runs_in_a_real_engine(client: DialectClient, place: Path):
    script = 'echo "$GREETING"; cat /share/note; id -u; id -g; cat /host/file; touch /host/x 2>/dev/null || echo read-only; pwd; ls /work 2>/dev/null; exit 3'
    made = post(
        client, "pod-1",
        {
            "command": ["sh", "-c", script], "workingDir": "/tmp",
            "env": [{"name": "GREETING", "value": "hello"}],
            "securityContext": {"runAsUser": 4321, "runAsGroup": 4321},
            "resources": {"limits": {"memory": "64Mi"}},
            "volumeMounts": [
                {"name": "share", "mountPath": "/share"}, {"name": "host", "mountPath": "/host", "readOnly": True},
            ],
        },
        volumes=[{"name": "share", "emptyDir": {}}, {"name": "host", "hostPath": {"path": str(place)}}],
        initContainers=[
            {"name": "prepare", "image": BUSYBOX_IMAGE, "command": ["sh", "-c", "echo from prepare > /in/note"],
             "volumeMounts": [{"name": "share", "mountPath": "/in"}], "securityContext": {"runAsUser": 77}},
        ],
    )  # fmt: skip
    assert made.status_code == 201, made.text
    task = ended(client, "pod-1")
    assert output(client, "pod-1").splitlines() == ["hello", "from prepare", "4321", "4321", "of this machine", "read-only", "/tmp"]
    assert (task["processStatus"]["terminated"]["exitCode"], task["podStatus"]["phase"]) == (3, "Failed")
    (main,), (init,) = task["podStatus"]["containerStatuses"], task["podStatus"]["initContainerStatuses"]
    assert (main["name"], main["state"]["terminated"]["exitCode"], main["state"]["terminated"]["reason"]) == ("main", 3, "Error")
    assert (init["name"], init["state"]["terminated"]["exitCode"], init["state"]["terminated"]["reason"]) == ("prepare", 0, "Completed")
    assert main["containerID"].startswith("podman://")
    assert main["imageID"]
    assert task["podTemplateSpec"]["spec"]["containers"][0]["image"] == BUSYBOX_IMAGE


@engine
def test_a_pod_that_runs_is_stopped_by_its_deletion(client: DialectClient, dock: Daemon, podman_server: Server):
    made = post(client, "pod-2", {"command": ["sleep", "600"]}, terminationGracePeriodSeconds=0)
    assert made.status_code == 201, made.text
    task = wait_for(
        lambda: (t := client.get("/tasks/pod-2").json())["podStatus"]["conditions"][0]["status"] == "True" and t, "it is ready"
    )
    assert task["podStatus"]["phase"] == "Running"
    assert client.call("DELETE", "/tasks/pod-2").status_code == 204
    wait_for(lambda: client.get("/tasks/pod-2").status_code == 404, "it is gone")
    wait_for(lambda: not podman_server.containers_of(dock.state_dir), "and its container")


@engine
def test_the_guides_container_runs_in_a_real_engine(client: DialectClient):
    asked = {"image": BUSYBOX_IMAGE, "command": ["sh", "-c"], "args": ["echo $http_proxy"], "env": [{"name": "http_proxy", "value": "http://p"}]}
    made = client.post("/tasks", {"name": "guide-1", "spec": {"container": asked}})
    assert made.status_code == 201, made.text
    task = ended(client, "guide-1")
    assert (task["spec"], task["status"]["state"]["terminated"]["exitCode"]) == ({"container": asked}, 0)
    assert output(client, "guide-1") == "http://p\n"
    assert "podStatus" not in task


@engine
def test_a_pod_goes_on_across_restarts_of_the_daemon(make_daemon: Any, podman_server: Server):
    daemon = make_daemon(dialects=["executor"], engines=podman_server.sockets, container_networks=["none"]).start()
    client = DialectClient(daemon, {"Authorization": "Bearer {token}"})
    post(client, "pod-4", {"command": ["sleep", "600"]}, terminationGracePeriodSeconds=0)

    def ready() -> Any:
        (found,) = client.get("/tasks/pod-4").json()["podStatus"]["containerStatuses"]
        return found["ready"] and found

    before = wait_for(ready, "it runs")
    daemon.restart()
    assert wait_for(ready, "it runs on") == before
    daemon.restart()
    assert client.call("DELETE", "/tasks/pod-4").status_code == 204
    daemon.restart()
    wait_for(lambda: client.get("/tasks/pod-4").status_code == 404, "it is gone")
    wait_for(lambda: not podman_server.containers_of(daemon.state_dir), "and its container")


@engine
def test_a_directory_of_the_task_is_made_nowhere_else(dock: Daemon, tmp_path: Path):
    container = {"image": BUSYBOX_IMAGE, "args": ["true"], "workMounts": [{"path": "volumes/v", "target": "/v", "makeDirectory": True}]}
    link = {"machine": "process", "parameters": {"command": ["ln", "-s", str(tmp_path), "volumes"]}}
    task = dock.wait(dock.submit(actions=[link, {"machine": "container", "parameters": container}]))
    assert task["outcome"] == "failed"
    assert "symbolic link" in task["error"]
    assert not (tmp_path / "v").exists()


@engine
def test_an_image_that_cannot_be_had_is_told(client: DialectClient):
    assert post(client, "pod-3", {"image": "localhost/no-such:1", "imagePullPolicy": "Never"}).status_code == 201
    state = ended(client, "pod-3")["podStatus"]["containerStatuses"][0]["state"]["terminated"]
    assert (state["exitCode"], state["reason"]) == (128, "ErrImagePull")
    assert "no-such" in state["message"]


@engine
def test_refusals_have_the_form_of_the_system(client: DialectClient):
    for name, asked, message in (
        ("bad-1", {"tty": True}, "podTemplateSpec.spec.containers.0.tty: it has none"),
        ("bad-2", {"image": "Not an image"}, "podTemplateSpec.spec.containers.0.image:"),
    ):
        answer = post(client, name, asked)
        assert (answer.status_code, answer.json()["code"]) == (500, "Internal Server Error")
        assert answer.json()["message"].startswith(f"failed to create task: {message}")
        assert client.get(f"/tasks/{name}").status_code == 404
    elsewhere = post(client, "bad-3", {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}, volumes=[{"name": "v", "hostPath": {"path": "/etc"}}])
    assert "podTemplateSpec.spec.containers.0.volumeMounts: /etc: the server lets containers mount" in elsewhere.json()["message"]
