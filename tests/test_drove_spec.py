"""Drove's TaskSpec, read and translated: pure."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from task_runner.api.dialects.drove import placement, spec
from task_runner.api.dialects.drove.placement import Place, Policy
from task_runner.api.dialects.drove.reader import Faults, Reader
from task_runner.api.dialects.drove.record import alias_of, names_of, record_of
from task_runner.api.dialects.drove.spec import Site, TaskSpec
from task_runner.api.dialects.drove.units import Duration, duration, size
from task_runner.model.codec import from_json
from task_runner.model.spec import Spec
from task_runner.model.walls import ContainerParameters, Device, Registry, Transport
from task_runner.service.validate import parse_spec
from task_runner.service.validate_record import MOST_FAULTS

SECRETS = {"s3same-of-web": "web-password", "t0ken-of-web": "web-token", "Custom all-of-it": "web-header"}
SITE = Site(hostname="node-1", environ={"REGION": "west"}, name_of=SECRETS.get)
LEAST = {
    "sourceAppName": "TEST_APP",
    "taskId": "T0012",
    "executable": {"type": "DOCKER", "url": "docker.io/library/busybox:1"},
    "resources": [{"type": "CPU", "count": 1}, {"type": "MEMORY", "sizeInMB": 128}],
}
HTTP = {"protocol": "HTTP", "hostname": "configs.example"}


def read(given: dict[str, Any], site: Site = SITE, at: str = "spec") -> tuple[TaskSpec | None, Faults]:
    faults = Faults()
    return spec.read(Reader(given, at, faults), site), faults


def translated(site: Site = SITE, **more: Any) -> Spec:
    wanted, faults = read({**LEAST, **more}, site)
    assert wanted is not None, faults
    return parse_spec(wanted.body)


def container(site: Site = SITE, **more: Any) -> ContainerParameters:
    (action,) = translated(site, **more).actions
    assert action.machine == "container"
    return from_json(ContainerParameters, action.parameters)


def refused(site: Site = SITE, **more: Any) -> list[str]:
    wanted, faults = read({**LEAST, **more}, site)
    assert wanted is None
    return faults.all


def fetched(**call: Any) -> Any:
    (file,) = translated(configs=[config(**call)]).files
    return file.fetch


def config(**call: Any) -> dict[str, Any]:
    return {"type": "EXECUTOR_HTTP_FETCH", "localFilename": "/etc/a", "http": {**HTTP, **call}}


# -- what a spec must have


def test_everything_that_is_missing_is_told_at_once_in_droves_words():
    _, faults = read({"volumes": [{}], "logging": {"type": "RSYSLOG"}, "userSpec": {}, "executable": {}, "configs": [{"type": "INLINE"}]})
    assert faults.shapes == []
    assert faults.values == [
        "spec.sourceAppName - Source Application name is mandatory",
        "spec.taskId - Task ID is mandatory",
        "spec.executable.url must not be empty",
        "spec.resources - CPU/Memory requirements must be specified",
        "spec.volumes[0].pathInContainer - Provide mount path inside container",
        "spec.volumes[0].pathOnHost - Provide host directory to mount",
        "spec.volumes[0].mode - Specify whether mount is read-only or read-write",
        "spec.configs[0].localFilename must not be empty",
        "spec.configs[0].data must not be null",
        "spec.logging.server must not be empty",
        "spec.userSpec.user must not be empty",
    ]
    _, faults = read({}, at="")
    assert "executable - Executable details is required" in faults.all


def test_what_is_of_the_wrong_shape_is_told_apart_from_what_is_not_allowed():
    _, faults = read(
        {**LEAST, "taskId": "a b", "executable": {"type": "JAR", "url": ["x"], "dockerPullTimeout": "soon"}, "resources": {}, "env": [], "args": [{}]}
    )
    assert faults.shapes == [
        "spec.executable.type - one of DOCKER is expected",
        "spec.executable.url - text is expected",
        "spec.executable.dockerPullTimeout - Invalid duration: soon: a number and one of ns, us, ms, s, m, h, d is expected",
        "spec.resources - a list is expected",
        "spec.env - an object is expected",
        "spec.args[0] - text is expected",
    ]
    assert faults.values == [
        "spec.taskId - Only characters, numbers, hyphen and underscore is allowed",
        "spec.resources - CPU/Memory requirements must be specified",
    ]


@pytest.mark.parametrize("name", ["", "../x", "a/b", "ä", "a:b", "a\n"])
def test_names_are_letters_digits_hyphens_and_underscores(name: str):
    assert refused(taskId=name)
    assert refused(sourceAppName=name)


def test_numbers_may_be_text_and_words_may_be_in_any_case_and_unknown_fields_are_passed_over():
    wanted, _ = read(
        {
            **LEAST,
            "later": {"x": 1},
            "executable": {"type": "docker", "url": "busybox", "later": True},
            "resources": [{"type": "cpu", "count": "2"}, {"type": "Memory", "sizeInMB": 64}],
            "env": {"PORT": 80, "ON": True},
            "args": ["-p", 80],
        }
    )
    assert wanted is not None
    assert wanted.record.env == {"PORT": "80", "ON": "true"}
    assert wanted.record.args == ["-p", "80"]
    assert wanted.record.resources == [{"type": "CPU", "count": 2}, {"type": "MEMORY", "sizeInMB": 64}]


@pytest.mark.parametrize("count", ["1_000", "\uff11\uff12", "0x10", "1e2", "two", "9" * 5000])
def test_text_is_a_number_where_it_is_one_in_plain_digits(count: str):
    told = refused(resources=[{"type": "CPU", "count": count}])
    assert told == ["spec.resources[0].count - a whole number is expected"]


def test_of_very_many_faults_the_first_are_told():
    told = refused(volumes=[{}] * 1000)
    assert len(told) == MOST_FAULTS + 1
    assert told[-1] == f"and {3000 - MOST_FAULTS} more"


# -- what it means


def test_a_spec_is_one_container():
    task = translated()
    assert (task.name, task.alias) == ("TEST_APP-T0012", "drove:TEST_APP/T0012")
    assert task.resources is not None
    assert (task.resources.cpus, task.resources.memory_mb) == (1.0, 128)
    inside = container()
    assert inside.image == "docker.io/library/busybox:1"
    assert (inside.args, inside.user, inside.work_at, inside.engine) == (None, None, None, None)
    assert inside.limits is not None
    assert (inside.limits.cpus, inside.limits.memory_mb) == (1.0, 128)
    assert inside.pull_timeout_seconds == 900.0


def test_what_has_to_be_echoed_is_kept_and_secrets_and_contents_are_not():
    task = translated(
        env={"A": "1", "REGION": ""},
        args=["x"],
        tags={"team": "b"},
        volumes=[{"pathOnHost": "/srv/a", "pathInContainer": "/a", "mode": "read_only"}],
        configs=[{"type": "INLINE", "localFilename": "/etc/a", "data": "c2VjcmV0"}, {**config(username="ada", password="s3same-of-web"), "localFilename": "/etc/b"}],
        userSpec={"user": "1000", "group": "2000"},
    )
    record = record_of(task.metadata)
    assert record is not None
    assert record.instance_id.startswith("TI-")
    assert len(record.instance_id) == 39
    assert record.executable == {"type": "DOCKER", "url": "docker.io/library/busybox:1", "dockerPullTimeout": "15 minutes"}
    assert record.env == {"A": "1", "REGION": ""}
    assert record.volumes == [{"pathOnHost": "/srv/a", "pathInContainer": "/a", "mode": "READ_ONLY"}]
    assert record.configs == [{"type": "INLINE", "localFilename": "/etc/a"}, {"type": "EXECUTOR_HTTP_FETCH", "localFilename": "/etc/b"}]
    assert (record.args, record.tags, record.user_spec) == (["x"], {"team": "b"}, {"user": "1000", "group": "2000"})
    assert record.logging is None
    assert record.placement_policy == {"type": "ANY"}
    assert "s3same" not in str(task)
    assert task.tags == {"team": "b"}


def test_records_of_others_and_damaged_ones_are_none():
    assert record_of(None) is None
    assert record_of({"drove": {"taskId": 3}}) is None
    assert record_of({"other": {}}) is None
    assert names_of(alias_of("A", "T")) == ("A", "T")
    assert [names_of(alias) for alias in (None, "", "nightly", "executor:a/b", "drove:a")] == [None] * 5


def test_the_variables_of_drove_are_set_and_empty_ones_are_the_servers():
    env = container(env={"A": "1", "REGION": "", "GONE": "", "NULL": None, "HOST": "mine", "DROVE_TASK_ID": "x"}).env
    instance = env.pop("DROVE_INSTANCE_ID")
    assert instance.startswith("TI-")
    assert env == {
        "HOST": "mine",
        "A": "1",
        "REGION": "west",
        "DROVE_CONTAINER_ID": "docker.io/library/busybox:1",
        "DROVE_EXECUTOR_HOST": "node-1",
        "DROVE_TASK_ID": "T0012",
        "DROVE_SOURCE_APP_NAME": "TEST_APP",
    }
    assert container().env["HOST"] == "node-1"


def test_images_are_fetched_anew_but_for_those_that_cannot_change():
    def pull(url: str, site: Site = SITE) -> str:
        return container(site, executable={"url": url}).pull.value

    assert pull("busybox") == pull("localhost:5000/a:1") == "always"
    assert pull("localhost/a:1") == pull(f"a@sha256:{'0' * 64}") == "missing"
    assert pull("busybox", Site(hostname="n", environ={}, name_of=SECRETS.get, pull_always=False)) == "missing"


def test_a_registry_is_asked_by_whom_the_server_says():
    known = {name: Registry(username=name.replace(":", "-"), password_secret="s") for name in ("docker.io", "localhost:5000", "r.example")}
    site = Site(hostname="n", environ={}, name_of=SECRETS.get, registries=known)
    found = {image: container(site, executable={"url": image}).registry for image in ("a", "b/a", "localhost:5000/a", "r.example/b/a:1", "s.example/a")}
    assert {image: each and each.username for image, each in found.items()} == {
        "a": "docker.io", "b/a": "docker.io", "localhost:5000/a": "localhost-5000", "r.example/b/a:1": "r.example", "s.example/a": None,
    }  # fmt: skip


def test_volumes_are_mounts():
    (mount, other) = container(
        volumes=[
            {"pathOnHost": "/srv/a", "pathInContainer": "/a", "mode": "READ_ONLY"},
            {"pathOnHost": "/srv/b", "pathInContainer": "/b", "mode": "read_write"},
        ]
    ).mounts
    assert (mount.source, mount.target, mount.read_only) == ("/srv/a", "/a", True)
    assert (other.source, other.target, other.read_only) == ("/srv/b", "/b", False)


def test_the_user_is_that_of_the_container():
    assert container(userSpec={"user": "app"}).user == "app"
    assert container(userSpec={"user": 1000, "group": "2000"}).user == "1000:2000"


def test_direct_devices_are_shown_with_their_permissions():
    devices = [{"type": "DIRECT", "pathOnHost": "/dev/a"}]
    devices += [{"type": "direct", "pathOnHost": "/dev/a", "pathInContainer": "/dev/b", "permissions": word} for word in _PERMITTED]
    found = container(devices=devices).devices
    assert found[0] == Device(path="/dev/a", permissions="rwm")
    assert found[1:] == [Device(path="/dev/a", target="/dev/b", permissions=letters) for letters in _PERMITTED.values()]


_PERMITTED = {"READ_ONLY": "r", "WRITE_ONLY": "w", "MKNOD_ONLY": "m", "ALL": "rwm", "READ_WRITE": "rw"}


def test_devices_that_cannot_be_had_are_refused():
    (told,) = refused(devices=[{"type": "DETAILED", "driver": "nvidia", "count": 1, "capabilities": [["gpu"]]}])
    assert told.startswith("spec.devices[0].type - a DETAILED device")
    assert "DIRECT" in told
    nothing = Site(hostname="n", environ={}, name_of=SECRETS.get, devices=False)
    assert refused(nothing, devices=[{"type": "DIRECT", "pathOnHost": "/dev/a"}]) == [
        "Device access is disabled. To enable, set enableRawDeviceAccess: true in controller options."
    ]


def test_arguments_are_counted_and_can_be_forbidden():
    assert container(args=["a", "b c"]).args == ["a", "b c"]
    assert container(args=["x" * 2046, "y"]).args
    assert refused(args=["x" * 2047, "y"]) == ["Maximum combined length of command line arguments can be 2048"]
    without = Site(hostname="n", environ={}, name_of=SECRETS.get, arguments=False)
    assert refused(without, args=["x"]) == ["Passing command line to containers is disabled on this cluster"]
    assert container(without, args=[]).args is None


def test_tags_that_cannot_be_filtered_by_are_kept_all_the_same():
    task = translated(tags={"a=b": "1", "long": "x" * 201, "team": "b"})
    assert task.tags == {"team": "b"}
    record = record_of(task.metadata)
    assert record is not None
    assert record.tags == {"a=b": "1", "long": "x" * 201, "team": "b"}


# -- configs


def test_configs_are_files_shown_where_they_are_wanted():
    data = base64.b64encode(b"\0of the client").decode()
    given = [
        {"type": "INLINE", "localFilename": "/etc/a.conf", "data": data},
        {"type": "executor_local_file", "localFilename": "etc/b.conf", "filePathOnHost": "/srv/b.conf"},
        {"type": "CONTROLLER_HTTP_FETCH", "localFilename": "/c", "http": HTTP},
        {"type": "EXECUTOR_HTTP_FETCH", "localFilename": "//d//e", "http": HTTP},
    ]
    files, inside = translated(configs=given).files, container(configs=given)
    assert [(each.base64, each.host_path, each.fetch and each.fetch.url) for each in files] == [
        (data, None, None),
        (None, "/srv/b.conf", None),
        (None, None, "http://configs.example/"),
        (None, None, "http://configs.example/"),
    ]
    assert [(shown.path, shown.target, shown.read_only) for shown in inside.work_mounts] == [
        (file.path, target, False) for file, target in zip(files, ["/etc/a.conf", "/etc/b.conf", "/c", "/d/e"], strict=True)
    ]
    assert {each.mode for each in files} == {"0644"}


@pytest.mark.parametrize("name", ["/", "../etc/a", "/a/../../b", ".", "a\0b"])
def test_a_config_has_the_path_of_a_file(name: str):
    (told,) = refused(configs=[{"type": "INLINE", "localFilename": name, "data": ""}])
    assert told.startswith("spec.configs[0].localFilename - the path of a file")


def test_every_field_of_a_fetch_is_passed_on():
    fetch = fetched(
        protocol="https", port=8443, path="a?b=c", verb="post", successCodes=[201, "200"], payload="{}", insecure=True,
        connectionTimeout="2 s", operationTimeout="1m", headers={"Accept": "text/plain"},
    )  # fmt: skip
    assert fetch.url == "https://configs.example:8443/a?b=c"
    assert (fetch.method, fetch.statuses, fetch.body, fetch.insecure) == ("POST", [200, 201], "{}", True)
    assert (fetch.connect_seconds, fetch.timeout_seconds) == (2.0, 60.0)
    assert fetch.headers == {"Accept": "text/plain"}
    plain = fetched(payload="ignored", insecure=True)
    assert (plain.method, plain.statuses, plain.body, plain.insecure) == ("GET", [200], None, False)
    assert (plain.connect_seconds, plain.timeout_seconds) == (1.0, 1.0)
    assert fetched(hostname="::1", port=80).url == "http://[::1]:80/"


def test_credentials_that_are_secrets_of_the_server_are_kept_by_name():
    basic = fetched(username="ada", password="s3same-of-web")
    assert (basic.username, basic.password_secret, basic.header_secrets) == ("ada", "web-password", {})
    assert fetched(authHeader="Bearer t0ken-of-web").bearer_secret == "web-token"
    whole = fetched(authHeader="Custom all-of-it", username="ada", password="clear")
    assert (whole.header_secrets, whole.username) == ({"Authorization": "web-header"}, None)
    encoded = base64.b64encode(b"ada:s3same-of-web").decode()
    header = fetched(headers={"authorization": f"Basic {encoded}", "X-Api-Key": "t0ken-of-web", "X-Other": "t0ken-of-web"})
    assert (header.username, header.password_secret) == ("ada", "web-password")
    assert header.header_secrets == {"X-Api-Key": "web-token", "X-Other": "web-token"}
    assert fetched(username="ada").username is None


@pytest.mark.parametrize("host", ["", "a b", "ada:clear@host", "host/path", "host?a=b"])
def test_a_host_is_a_host_and_nothing_more(host: str):
    (told,) = refused(configs=[config(hostname=host)])
    assert told.startswith("spec.configs[0].http.hostname ")
    assert "clear" not in told


@pytest.mark.parametrize(
    ("call", "field"),
    [
        ({"username": "ada", "password": "clear"}, "password"),
        ({"authHeader": "Bearer clear"}, "authHeader"),
        ({"authHeader": "Basic YQ=="}, "authHeader"),
        ({"authHeader": "Basic é"}, "authHeader"),
        ({"authHeader": "Basic /zpzM3NhbWUtb2Ytd2Vi"}, "authHeader"),  # the user is no UTF-8
        ({"headers": {"Authorization": "clear"}}, "headers.Authorization"),
        ({"headers": {"Cookie": "clear"}}, "headers.Cookie"),
        ({"headers": {"x-vault-token": "clear"}}, "headers.x-vault-token"),
        ({"headers": {"Cluster-Authorization": "clear"}}, "headers.Cluster-Authorization"),
        ({"headers": {"X-Amz-Signature": "clear"}}, "headers.X-Amz-Signature"),
        ({"headers": {"X-Who": "bearer clear"}}, "headers.X-Who"),
    ],
)
def test_credentials_in_clear_are_refused_with_the_remedy(call: dict[str, Any], field: str):
    (told,) = refused(configs=[config(**call)])
    assert told.startswith(f"spec.configs[0].http.{field} - a credential is not kept in clear")
    assert "secrets_dir" in told
    assert "clear:" not in told.removeprefix(f"spec.configs[0].http.{field} - a credential is not kept in clear:")


# -- logging


def test_local_logging_is_a_limit_of_the_output():
    assert translated().max_output_bytes is None
    assert translated(logging={"type": "LOCAL"}).max_output_bytes == 30_000_000
    assert translated(logging={"type": "local", "maxSize": "100k", "maxFiles": 2, "compress": False}).max_output_bytes == 200_000
    assert translated(logging={"type": "LOCAL", "maxSize": "1k", "maxFiles": 1}).max_output_bytes == 65_536
    record = record_of(translated(logging={"type": "LOCAL"}).metadata)
    assert record is not None
    assert record.logging == {"type": "LOCAL", "maxSize": "10m", "maxFiles": 3, "compress": True}
    assert refused(logging={"type": "LOCAL", "maxFiles": 101}) == ["spec.logging.maxFiles must be between 1 and 100"]
    assert refused(logging={"type": "LOCAL", "maxSize": "much"})


@pytest.mark.parametrize(
    ("server", "target"),
    [
        ("udp://logs.example:5140", ("logs.example", 5140, Transport.UDP)),
        ("tcp://10.0.0.1", ("10.0.0.1", 514, Transport.TCP)),
        ("tcp+tls://logs.example:6514", ("logs.example", 6514, Transport.TLS)),
        ("logs.example:1514", ("logs.example", 1514, Transport.UDP)),
        ("udp://[::1]:99", ("::1", 99, Transport.UDP)),
    ],
)
def test_rsyslog_is_forwarded_to(server: str, target: tuple[str, int, Transport]):
    logging = translated(logging={"type": "RSYSLOG", "server": server, "tagPrefix": "a-", "tagSuffix": "-z"}).logging
    assert logging is not None
    assert logging.syslog is not None
    assert (logging.syslog.host, logging.syslog.port, logging.syslog.transport) == target
    assert (logging.syslog.facility, logging.tag_prefix, logging.tag_suffix) == (3, "a-", "-z")


@pytest.mark.parametrize("server", ["unix:///dev/log", "udp://", "tcp://host:port", "ftp://host:1", "udp://host/path"])
def test_other_targets_are_refused(server: str):
    (told,) = refused(logging={"type": "RSYSLOG", "server": server})
    assert told.startswith("spec.logging.server - udp://HOST:PORT")


# -- placement

HERE = Place(hostname="node-1", tags=(), tasks=0)
GPU = Place(hostname="node-1", tags=("gpu",), tasks=0)
BUSY = Place(hostname="node-1", tags=(), tasks=2)


def policy(given: dict[str, Any] | None) -> Policy:
    wanted, faults = read({**LEAST, **({} if given is None else {"placementPolicy": given})})
    assert wanted is not None, faults
    return wanted.policy


@pytest.mark.parametrize(
    ("given", "place", "met"),
    [
        (None, BUSY, True),
        ({"type": "ANY"}, BUSY, True),
        ({"type": "ANY"}, GPU, False),
        ({"type": "ONE_PER_HOST"}, HERE, True),
        ({"type": "ONE_PER_HOST"}, BUSY, False),
        ({"type": "MAX_N_PER_HOST", "max": 3}, BUSY, True),
        ({"type": "MAX_N_PER_HOST", "max": 2}, BUSY, False),
        ({"type": "MATCH_TAG", "tag": "gpu"}, GPU, True),
        ({"type": "MATCH_TAG", "tag": "gpu"}, HERE, False),
        ({"type": "MATCH_TAG", "tag": "node-1"}, HERE, True),
        ({"type": "no_tag"}, HERE, True),
        ({"type": "NO_TAG"}, GPU, False),
        ({"type": "RULE_BASED", "rule": "true", "ruleType": "MVEL"}, HERE, False),
        ({"type": "COMPOSITE", "policies": [{"type": "ONE_PER_HOST"}, {"type": "MATCH_TAG", "tag": "gpu"}]}, GPU, True),
        ({"type": "COMPOSITE", "policies": [{"type": "ONE_PER_HOST"}, {"type": "ANY"}], "combiner": "AND"}, BUSY, False),
        ({"type": "COMPOSITE", "policies": [{"type": "ONE_PER_HOST"}, {"type": "ANY"}], "combiner": "or"}, BUSY, True),
        ({"type": "COMPOSITE", "policies": [{"type": "RULE_BASED", "rule": "x", "ruleType": "HOPE"}, {"type": "ANY"}], "combiner": "OR"}, HERE, True),
    ],
)  # fmt: skip
def test_a_policy_is_met_by_this_node_or_says_why_not(given: dict[str, Any] | None, place: Place, met: bool):
    why = placement.obstacle(policy(given), place)
    assert (why is None) == met, why


def test_an_obstacle_names_what_would_help():
    assert "drove_tags" in str(placement.obstacle(policy({"type": "MATCH_TAG", "tag": "gpu"}), HERE))
    assert "gpu" in str(placement.obstacle(policy({"type": "ANY"}), GPU))
    assert "wait for their end" in str(placement.obstacle(policy({"type": "ONE_PER_HOST"}), BUSY))
    assert "MATCH_TAG" in str(placement.obstacle(policy({"type": "RULE_BASED", "rule": "x", "ruleType": "HOPE"}), HERE))


@pytest.mark.parametrize("given", [{"type": "LOCAL"}, {"type": "COMPOSITE", "policies": [{"type": "ANY"}, {"type": "LOCAL", "hostLevel": True}]}])
def test_local_placement_is_refused_wherever_it_stands(given: dict[str, Any]):
    assert refused(placementPolicy=given) == ["Local service placement is not allowed for tasks"]


def test_policies_are_read_strictly_and_echoed():
    assert refused(placementPolicy={}) == ["spec.placementPolicy.type must not be null"]
    assert refused(placementPolicy={"type": "MAX_N_PER_HOST", "max": 65}) == ["spec.placementPolicy.max must be between 1 and 64"]
    assert refused(placementPolicy={"type": "MATCH_TAG"}) == ["spec.placementPolicy.tag must not be empty"]
    assert refused(placementPolicy={"type": "COMPOSITE", "policies": [{"type": "NEAR"}]}) == [
        "spec.placementPolicy.policies[0].type - one of ANY, ONE_PER_HOST, MAX_N_PER_HOST, MATCH_TAG, NO_TAG, RULE_BASED, COMPOSITE, LOCAL is expected"
    ]
    deep: dict[str, Any] = {"type": "ANY"}
    for _ in range(40):
        deep = {"type": "COMPOSITE", "policies": [deep]}
    assert "write them flatter" in refused(placementPolicy=deep)[0]
    given = {"type": "COMPOSITE", "combiner": "OR", "policies": [{"type": "MAX_N_PER_HOST", "max": 2}, {"type": "MATCH_TAG", "tag": "x"}]}
    assert policy(given).json() == given


# -- operations, durations, sizes


def test_an_operation_has_a_time_that_its_task_must_have_started_in():
    def operation(**given: Any) -> tuple[Any, list[str]]:
        faults = Faults()
        return spec.read_operation(Reader({"opSpec": given} if given else {}, "", faults)), faults.all

    read_, _ = operation(timeout="5m", parallelism=1, failureStrategy="stop")
    assert read_ == (Duration(5, "minute"), {"timeout": "5 minutes", "parallelism": 1, "failureStrategy": "STOP"})
    assert operation() == (None, ["opSpec must not be null"])
    assert operation(x=1)[1] == ["opSpec.timeout must not be null", "opSpec.failureStrategy must not be null"]
    assert operation(timeout="5m", parallelism=513, failureStrategy="ROLLBACK")[1] == ["opSpec.parallelism must be between 1 and 512"]
    assert operation(timeout="0s", failureStrategy="STOP")[1] == ["opSpec.timeout - must be more than nothing"]
    wanted, _ = read(LEAST)
    assert wanted is not None
    assert wanted.body["startWithinSeconds"] is None
    within = spec.read(Reader(LEAST, "spec", Faults()), SITE, read_)
    assert within is not None
    assert parse_spec(within.body).start_within_seconds == 300.0
    assert within.record.op_spec["timeout"] == "5 minutes"


@pytest.mark.parametrize(
    ("text", "seconds", "said"),
    [
        ("5m", 300, "5 minutes"), ("1 min", 60, "1 minute"), ("100 seconds", 100, "100 seconds"), ("2h", 7200, "2 hours"),
        ("1d", 86_400, "1 day"), ("250ms", 0.25, "250 milliseconds"), ("7 us", 7e-6, "7 microseconds"), ("1ns", 1e-9, "1 nanosecond"),
    ],
)  # fmt: skip
def test_durations_are_those_of_dropwizard(text: str, seconds: float, said: str):
    assert (duration(text).seconds, str(duration(text))) == (seconds, said)


@pytest.mark.parametrize("text", ["", "5", "m", "5 M", "-5m", "5.5m", "5m 3s", "\u0665m"])
def test_what_is_no_duration_is_refused(text: str):
    with pytest.raises(ValueError, match="Invalid duration"):
        duration(text)


def test_sizes_are_those_of_docker():
    assert [size(text) for text in ("10", "10k", "10M", "1.5g", "2mb", "3 MiB")] == [10, 10_000, 10_000_000, 1_500_000_000, 2_000_000, 3_000_000]
    for text in ("", "m", "-1m", "1x"):
        with pytest.raises(ValueError, match="invalid size"):
            size(text)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("actions.0.parameters.image", "spec.executable.url"),
        ("actions.0.machine", "spec.executable"),
        ("actions.0.parameters.args.3", "spec.args[3]"),
        ("actions.0.parameters.workMounts.1", "spec.configs[1].localFilename"),
        ("actions.0.parameters.mounts.1", "spec.volumes[1].pathInContainer"),
        ("files.2.hostPath", "spec.configs[2].filePathOnHost"),
        ("files.2.fetch.headers.X-A", "spec.configs[2].http.headers.X-A"),
        ("logging.syslog.host", "spec.logging.server"),
        ("startWithinSeconds", "opSpec.timeout"),
        ("alias", "spec.taskId"),
        ("umask", "spec"),
    ],
)
def test_faults_of_the_core_are_told_of_the_fields_of_the_request(ours: str, theirs: str):
    assert spec.place_of(ours, "spec") == theirs
    assert spec.place_of(ours, "") == (theirs.removeprefix("spec.") or theirs)
