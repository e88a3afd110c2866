"""What is taken as a task, and what is said of what is not."""

from __future__ import annotations

import json
from difflib import SequenceMatcher
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from task_runner.api import params
from task_runner.errors import InvalidRequest
from task_runner.model.codec import from_json, to_json
from task_runner.model.shortform import expand
from task_runner.model.spec import Spec
from task_runner.service.validate import parse_json, parse_spec, schema


def spec_of(body: Any) -> Spec:
    return parse_spec(parse_json(json.dumps(body).encode()))


def faults_of(body: Any) -> dict[str, str]:
    """The faulty fields and what is said of each."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    with pytest.raises(InvalidRequest) as caught:
        parse_spec(parse_json(raw))
    assert str(caught.value)
    return {fault.field: fault.message for fault in caught.value.fields}


# -- forms


def test_the_short_forms_are_the_long_one():
    process = {"command": ["ls", "-l"], "env": {"A": "1"}, "workingDirectory": "x", "stdin": "text"}
    long = spec_of({"actions": [{"machine": "process", "parameters": process}], "name": "n", "timeoutSeconds": 3})
    assert spec_of({**process, "name": "n", "timeoutSeconds": 3}) == long
    assert spec_of({"machine": "process", "parameters": process, "name": "n", "timeoutSeconds": 3}) == long
    assert spec_of({"shell": "ls"}) == spec_of({"actions": [{"machine": "process", "parameters": {"shell": "ls"}}]})


def test_defaults():
    spec = spec_of({"command": ["true"]})
    assert (spec.name, spec.timeout_seconds, spec.stop_signal, spec.grace_seconds) == (None, None, "SIGTERM", 10.0)
    assert (spec.tags, spec.metadata) == ({}, None)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"actions": [], "command": ["a"]}, "command"),
        ({"actions": [], "env": {}}, "env"),
        ({"machine": "echo", "shell": "a"}, "shell"),
        ({"machine": "echo", "actions": []}, "machine"),
        ({"command": ["a"], "shell": "a"}, ""),
        ({"command": None}, ""),
        ({"env": {}}, ""),
        ({}, ""),
        ([], ""),
        ("text", ""),
        (5, ""),
        (None, ""),
        (True, ""),
    ],
)
def test_a_body_of_no_form_or_of_two(body: Any, field: str):
    assert field in faults_of(body)


def test_expanding_leaves_the_body_as_it_was():
    body = {"command": ["a"], "env": {"A": "1"}, "name": "n"}
    before = json.dumps(body)
    expand(body)
    assert json.dumps(body) == before


# -- fields

LONG = {"actions": [{"machine": "process", "parameters": {"command": ["true"]}}]}


def action(**parameters: Any) -> dict[str, Any]:
    return {"actions": [{"machine": "process", "parameters": parameters}]}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"actions": {}}, "actions"),
        ({"actions": []}, "actions"),
        ({"actions": [LONG["actions"][0]] * 101}, "actions"),
        ({"actions": [1]}, "actions.0"),
        ({"actions": [{}]}, "actions.0.machine"),
        ({"actions": [LONG["actions"][0], {"machine": 5}]}, "actions.1.machine"),
        ({"actions": [{"machine": "nosuch"}]}, "actions.0.machine"),
        ({"actions": [{"machine": "process"}]}, "actions.0.parameters"),
        ({"actions": [{"machine": "process", "parameters": {}}]}, "actions.0.parameters"),
        ({"machine": "nosuch"}, "machine"),
        ({"machine": ""}, "machine"),
        ({"machine": "a\nb"}, "machine"),
        ({"machine": "x" * 201}, "machine"),
        (action(command=[]), "actions.0.parameters.command"),
        (action(command=[1]), "actions.0.parameters.command.0"),
        (action(command=["a", None]), "actions.0.parameters.command.1"),
        (action(command="true"), "actions.0.parameters.command"),
        (action(command=[""]), "actions.0.parameters.command.0"),
        (action(command=["a\0"]), "actions.0.parameters.command.0"),
        (action(command=["x" * 131_073]), "actions.0.parameters.command.0"),
        (action(command=["x"] * 10_001), "actions.0.parameters.command"),
        (action(command=["x" * 131_000] * 12), "actions.0.parameters"),
        (action(shell=["a"]), "actions.0.parameters.shell"),
        (action(shell="a", env=[]), "actions.0.parameters.env"),
        (action(shell="a", env={"A": 1}), "actions.0.parameters.env.A"),
        (action(shell="a", env={"A=B": "1"}), "actions.0.parameters.env.A=B"),
        (action(shell="a", env={"": "1"}), "actions.0.parameters.env."),
        (action(shell="a", env={"A": "\0"}), "actions.0.parameters.env.A"),
        (action(shell="a", workingDirectory=1), "actions.0.parameters.workingDirectory"),
        (action(shell="a", workingDirectory="\0"), "actions.0.parameters.workingDirectory"),
        (action(shell="a", stdin=b"x".hex().encode().__len__()), "actions.0.parameters.stdin"),
        (action(shell="a", stdin="x" * 1_048_577), "actions.0.parameters.stdin"),
        ({"command": [1]}, "command.0"),
        ({"shell": 1}, "shell"),
        ({"shell": "a", "env": {"A": 1}}, "env.A"),
        ({**LONG, "name": ""}, "name"),
        ({**LONG, "name": 5}, "name"),
        ({**LONG, "name": "x" * 201}, "name"),
        ({**LONG, "name": "a\tb"}, "name"),
        ({**LONG, "timeoutSeconds": 0}, "timeoutSeconds"),
        ({**LONG, "timeoutSeconds": -1}, "timeoutSeconds"),
        ({**LONG, "timeoutSeconds": "5"}, "timeoutSeconds"),
        ({**LONG, "timeoutSeconds": True}, "timeoutSeconds"),
        ({**LONG, "timeoutSeconds": 1e300}, "timeoutSeconds"),
        ({**LONG, "timeoutSeconds": 10**400}, "timeoutSeconds"),
        ({**LONG, "timeoutSeconds": [5]}, "timeoutSeconds"),
        ({**LONG, "graceSeconds": -0.1}, "graceSeconds"),
        ({**LONG, "graceSeconds": None}, "graceSeconds"),
        ({**LONG, "graceSeconds": 86_401}, "graceSeconds"),
        ({**LONG, "stopSignal": "SIGNONE"}, "stopSignal"),
        ({**LONG, "stopSignal": "SIGRTMIN"}, "stopSignal"),
        ({**LONG, "stopSignal": "TERM"}, "stopSignal"),
        ({**LONG, "stopSignal": 15}, "stopSignal"),
        ({**LONG, "tags": []}, "tags"),
        ({**LONG, "tags": {"a": 1}}, "tags.a"),
        ({**LONG, "tags": {"a=b": "1"}}, "tags.a=b"),
        ({**LONG, "tags": {"a": "x\ny"}}, "tags.a"),
        ({**LONG, "tags": {str(n): "" for n in range(51)}}, "tags"),
        ({**LONG, "metadata": []}, "metadata"),
        ({**LONG, "metadata": "x"}, "metadata"),
        ({**LONG, "nothing": 1}, "nothing"),
        (action(shell="a", stdin="x", openStdin=True), "actions.0.parameters.openStdin"),
        (action(shell="a", openStdin="yes"), "actions.0.parameters.openStdin"),
        ({"shell": "a", "stdin": "x", "openStdin": True}, "openStdin"),
        ({**LONG, "cleanup": [{}]}, "cleanup.0.machine"),
        ({**LONG, "cleanup": [{"machine": "nosuch"}]}, "cleanup.0.machine"),
        ({**LONG, "cleanup": [LONG["actions"][0], {"machine": "process"}]}, "cleanup.1.parameters"),
        ({**LONG, "cleanup": [{"machine": "echo", "parameters": "frob"}]}, "cleanup.0.parameters.line 1"),
        ({**LONG, "cleanup": [{"machine": "process", "parameters": {"command": [""]}}]}, "cleanup.0.parameters.command.0"),
        ({**LONG, "cleanup": [LONG["actions"][0]] * 101}, "cleanup"),
        ({**LONG, "retry": {"on": []}}, "retry.on"),
        ({**LONG, "retry": {"on": ["succeeded"]}}, "retry.on.0"),
        ({"actions": [{**LONG["actions"][0], "retry": {"count": -1}}]}, "actions.0.retry.count"),
        ({**LONG, "executeAt": -1}, "executeAt"),
        ({**LONG, "executeAt": True}, "executeAt"),
        ({**LONG, "executeAt": 1e12}, "executeAt"),
        ({**LONG, "executeAt": "tomorrow"}, "executeAt"),
        ({**LONG, "executeAt": "1700000000"}, "executeAt"),
        ({**LONG, "executeAt": "2030-01-31T03:00:00"}, "executeAt"),
        ({**LONG, "executeAt": "2030-02-30T03:00:00Z"}, "executeAt"),
        ({**LONG, "executeAt": "1969-12-31T23:00:00Z"}, "executeAt"),
        ({**LONG, "priority": 1001}, "priority"),
        ({**LONG, "pools": ["a", "b", "a"]}, "pools.2"),
        ({**LONG, "pools": ["a b"]}, "pools.0"),
        ({**LONG, "after": [{"task": "x"}, {"task": "x", "on": "end"}]}, "after.1.task"),
        ({**LONG, "after": [{"task": "x", "on": "failure"}]}, "after.0.on"),
        ({**LONG, "resources": {"cpus": -1}}, "resources.cpus"),
        ({**LONG, "maxOutputBytes": 1000}, "maxOutputBytes"),
        ({**LONG, "stall": {}}, "stall.afterSeconds"),
        ({**LONG, "secrets": [{"name": "s"}]}, "secrets.0"),
        ({**LONG, "secrets": [{"name": "s", "env": "A"}, {"name": "t", "fileEnv": "A"}]}, "secrets.1.fileEnv"),
        ({**LONG, "secrets": [{"name": "s", "env": "A", "fileEnv": "A"}]}, "secrets.0.fileEnv"),
        ({**LONG, "secrets": [{"name": "s", "env": "TASK_RUNNER_TASK_ID"}]}, "secrets.0.env"),
        ({**LONG, "secrets": [{"name": "../s", "env": "A"}]}, "secrets.0.name"),
        ({**LONG, "maskSecrets": True}, "maskSecrets"),
        ({**LONG, "maskSecrets": True, "notify": [{"url": "http://h/", "secret": "s"}]}, "maskSecrets"),
        ({**LONG, "notify": [{"url": "ftp://h/"}]}, "notify.0.url"),
        ({**LONG, "notify": [{"url": "http:///x"}]}, "notify.0.url"),
        ({**LONG, "notify": [{"url": "http://h:99999/x"}]}, "notify.0.url"),
        ({**LONG, "notify": [{"url": "http://h/", "on": ["exited"]}]}, "notify.0.on.0"),
    ],
)
def test_a_faulty_field_is_named(body: Any, field: str):
    assert field in faults_of(body)


def test_every_fault_is_told_at_once():
    body = {**LONG, "name": 5, "timeoutSeconds": -1, "tags": {"a": 1}}
    assert set(faults_of(body)) == {"name", "timeoutSeconds", "tags.a"}


@pytest.mark.parametrize(
    ("body", "field", "near"),
    [
        ({**LONG, "timeoutSecond": 3}, "timeoutSecond", "timeoutSeconds"),
        ({**LONG, "timeout_seconds": 3}, "timeout_seconds", "timeoutSeconds"),
        ({**LONG, "metdata": {}}, "metdata", "metadata"),
        ({"comand": ["a"]}, "comand", "command"),
        ({"machin": "echo"}, "machin", "machine"),
        ({"action": []}, "action", "actions"),
        ({"shell": "a", "workingDir": "x"}, "workingDir", "workingDirectory"),
        ({"shell": "a", "environ": {}}, "environ", "env"),
        (action(comand=["a"]), "actions.0.parameters.comand", "command"),
        ({"actions": [{"machine": "echo", "parameter": ""}]}, "actions.0.parameter", "parameters"),
        ({"machine": "echo", "parameter": ""}, "parameter", "parameters"),
        ({"shell": "a", "openStdIn": True}, "openStdIn", "openStdin"),
        ({"actions": [{**LONG["actions"][0], "timeoutSecond": 3}]}, "actions.0.timeoutSecond", "timeoutSeconds"),
        ({**LONG, "cleanup": [{**LONG["actions"][0], "continueOnFail": 1}]}, "cleanup.0.continueOnFail", "continueOnFailure"),
        ({**LONG, "files": [{"path": "a", "hostpath": "/x"}]}, "files.0.hostpath", "hostPath"),
        ({**LONG, "files": [{"path": "a", "fetch": {"url": "http://h/", "header": {}}}]}, "files.0.fetch.header", "headers"),
        ({**LONG, "retry": {"delay": 1}}, "retry.delay", "delaySeconds"),
        ({**LONG, "after": [{"task": "a", "ON": "end"}]}, "after.0.ON", "on"),
        ({**LONG, "secrets": [{"name": "s", "file-env": "A"}]}, "secrets.0.file-env", "fileEnv"),
        ({"machine": "download", "parameters": {"url": "http://h/f", "sha-256": "0"}}, "parameters.sha-256", "sha256"),
        ({"machine": "extract", "parameters": {"path": "a", "strip": 1}}, "parameters.strip", "stripComponents"),
        ({**LONG, "notifications": []}, "notifications", "notify"),  # not "actions", in which are more of its letters
        ({"command": ["a"], "environment": {}}, "environment", "env"),
        ({**LONG, "retries": 3}, "retries", "retry"),
        ({**LONG, "stop": "SIGINT"}, "stop", "stopSignal"),
        ({**LONG, "limts": {}}, "limts", "limits"),
    ],
)
def test_an_unknown_field_brings_the_nearest_known_one(body: Any, field: str, near: str):
    message = faults_of(body)[field]
    assert "no such field" in message
    assert repr(near) in message


@pytest.mark.parametrize(
    "body",
    [
        {**LONG, "workingDir": "x"},  # of the machine `process`, and no field of a spec in its long form
        {"actions": [{"machine": "echo", "parameters": "", "hostpaths": 1}]},
        {**LONG, "files": [{"path": "a", "text": "", "timeoutSeconds": 1}]},
        {"machine": "download", "parameters": {"url": "http://h/f", "workingDirectory": 1}},
        {"machine": "container", "parameters": {"image": "a", "imagePullPolicy": "Always"}},
        {**LONG, "runAs": "nobody"},
    ],
)
def test_no_field_is_suggested_that_does_not_belong_there(body: Any):
    (message,) = faults_of(body).values()
    assert message == "no such field"


def test_a_field_that_is_like_none_is_compared_with_few(monkeypatch: pytest.MonkeyPatch):
    """The event loop reads specs, and others wait meanwhile."""
    compared = []
    ratio = SequenceMatcher.ratio
    monkeypatch.setattr(SequenceMatcher, "ratio", lambda matcher: compared.append(matcher.a) or ratio(matcher))
    faults = faults_of({**LONG, **{f"{number}{'memoryLimitPolicy' * 6}": 1 for number in range(100)}})
    assert set(faults.values()) == {"no such field"}
    assert len(compared) < len(faults)


def test_a_field_of_several_kinds_has_one_fault():
    assert faults_of({**LONG, "executeAt": -1}) == {"executeAt": "Input should be greater than or equal to 0"}
    assert faults_of({**LONG, "executeAt": []}).keys() == {"executeAt"}
    assert "time zone" in faults_of({**LONG, "executeAt": "2030-01-31T03:00:00"})["executeAt"]


def test_the_short_forms_take_every_field_of_a_spec():
    more: dict[str, Any] = {
        "cleanup": LONG["actions"],
        "cleanupSeconds": 5,
        "executeAt": "2030-01-31T03:00:00+01:00",
        "entity": "e",
        "priority": 5,
        "pools": ["a", "b"],
        "after": [{"task": "x"}, {"task": "y", "on": "end"}],
        "resources": {"cpus": 1.5, "memoryMb": 10, "gpus": 1},
        "retry": {"count": 1, "on": ["lost"]},
        "files": [{"path": "a", "text": ""}],
        "secrets": [{"name": "s", "env": "A"}, {"name": "s", "fileEnv": "B"}],
        "outputMode": "separate",
        "outputTimestamps": True,
        "maskSecrets": True,
        "maxOutputBytes": 65_536,
        "progress": True,
        "stall": {"afterSeconds": 5, "then": "stop"},
        "notify": [{"url": "https://h/x?y", "on": ["running", "failed"], "secret": "s"}],
        "keepSeconds": 0,
        "startWithinSeconds": 60,
        "alias": "drove:a/b",
        "limits": {"memoryMb": 10, "cpus": 0.5, "required": True},
        "user": "u",
        "group": "100",
        "umask": "027",
        "logging": {"syslog": {"host": "h", "transport": "tls"}, "journald": True, "tagPrefix": "a"},
        "name": "n",
        "timeoutSeconds": 1,
        "stopSignal": "SIGINT",
        "graceSeconds": 0,
        "tags": {"a": "b"},
        "metadata": {},
    }
    assert set(more) | {"actions"} == set(schema()["properties"])
    process = {"command": ["true"], "openStdin": True}
    long = spec_of({"actions": [{"machine": "process", "parameters": process}], **more})
    assert spec_of({**process, **more}) == long
    assert spec_of({"machine": "process", "parameters": process, **more}) == long


def test_an_action_that_is_tried_again_need_not_say_that_it_cannot_be_lost():
    spec_of({"actions": [{**LONG["actions"][0], "retry": {}}]})
    spec_of({"actions": [{**LONG["actions"][0], "retry": {"on": ["lost"]}}]})


def test_several_actions_may_have_an_open_stdin():
    spec_of({"actions": [{"machine": "process", "parameters": {"command": ["cat"], "openStdin": True}}] * 2})


@pytest.mark.parametrize("at", [0, None, 1.5, 253_402_300_799, "2030-01-31T03:00:00Z", "2030-01-31T03:00:00.5+05:30"])
def test_good_times(at: Any):
    assert spec_of({**LONG, "executeAt": at}).execute_at == at


# -- files


@pytest.mark.parametrize(
    ("file", "field", "words"),
    [
        ({"path": "a"}, "", "text, base64, hostPath, fetch"),
        ({"path": "a", "text": "", "base64": ""}, "base64", 'cannot stand beside "text"'),
        ({"path": "a", "hostPath": "/x", "fetch": {"url": "http://h/"}}, "fetch", 'beside "hostPath"'),
        ({"path": "/a", "text": ""}, "path", "absolute"),
        ({"path": "a/../b", "text": ""}, "path", '".."'),
        ({"path": "..", "text": ""}, "path", '".."'),
        ({"path": ".", "text": ""}, "path", "directory"),
        ({"path": "a/", "text": ""}, "path", "directory"),
        ({"path": "", "text": ""}, "path", ""),
        ({"path": "a\0", "text": ""}, "path", ""),
        ({"path": "é" * 128, "text": ""}, "path", "255 bytes"),
        ({"path": "aa/" * 1500 + "a", "text": ""}, "path", ""),
        ({"path": "a", "base64": "abc"}, "base64", "base64"),
        ({"path": "a", "base64": "a=bc"}, "base64", ""),
        ({"path": "a", "base64": "é"}, "base64", ""),
        ({"path": "a", "text": "", "mode": "888"}, "mode", ""),
        ({"path": "a", "text": "", "mode": "4755"}, "mode", ""),
        ({"path": "a", "text": "", "owner": "a b"}, "owner", ""),
        ({"path": "a", "hostPath": "relative"}, "hostPath", ""),
        ({"path": "a", "fetch": {"url": "file:///x"}}, "fetch.url", "http:, https:"),
        ({"path": "a", "fetch": {"url": "http://h/ b"}}, "fetch.url", ""),
        ({"path": "a", "fetch": {"url": "http://h/é"}}, "fetch.url", "escape"),
        ({"path": "a", "fetch": {"url": "http://h/", "method": "get"}}, "fetch.method", ""),
        ({"path": "a", "fetch": {"url": "http://h/", "headers": {"A\n": ""}}}, "fetch.headers.A\n", ""),
        ({"path": "a", "fetch": {"url": "http://h/", "headers": {"A": "\n"}}}, "fetch.headers.A", ""),
        ({"path": "a", "fetch": {"url": "http://h/", "headers": {"A": "€"}}}, "fetch.headers.A", "Latin-1"),
        ({"path": "a", "fetch": {"url": "http://h/", "headers": {"A": "", "a": ""}}}, "fetch.headers.a", "twice"),
        ({"path": "a", "fetch": {"url": "http://h/", "headers": {"Content-Length": "5"}}}, "fetch.headers.Content-Length", "itself"),
        ({"path": "a", "fetch": {"url": "http://h/", "passwordSecret": "s"}}, "fetch.passwordSecret", '"username"'),
        ({"path": "a", "fetch": {"url": "http://h/", "username": "a:b"}}, "fetch.username", ""),
        ({"path": "a", "fetch": {"url": "http://h/", "username": "u", "bearerSecret": "s"}}, "fetch.bearerSecret", "username"),
        ({"path": "a", "fetch": {"url": "http://u:p@h/", "bearerSecret": "s"}}, "fetch.bearerSecret", "url"),
        ({"path": "a", "fetch": {"url": "http://h/", "username": "u", "headerSecrets": {"authorization": "s"}}},
         "fetch.headerSecrets.authorization", "username"),
        ({"path": "a", "fetch": {"url": "http://h/", "headers": {"X-A": ""}, "headerSecrets": {"x-a": "s"}}},
         "fetch.headerSecrets.x-a", "headers"),
        ({"path": "a", "fetch": {"url": "http://h/", "headerSecrets": {"Host": "s"}}}, "fetch.headerSecrets.Host", "itself"),
        ({"path": "a", "fetch": {"url": "http://h/", "insecure": True}}, "fetch.insecure", "https"),
        ({"path": "a", "fetch": {"url": "http://h/", "statuses": [600]}}, "fetch.statuses.0", "599"),
        ({"path": "a", "fetch": {"url": "http://h/", "bearerSecret": "s", "headers": {"authorization": "x"}}},
         "fetch.headers.authorization", "bearerSecret"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_placed_is_refused(file: dict[str, Any], field: str, words: str):
    good = {"path": "good", "text": ""}
    faults = faults_of({**LONG, "files": [good, file]})
    assert words in faults[".".join(filter(None, ("files.1", field)))]
    assert len(faults) == 1


def test_two_files_cannot_be_one():
    paths = ["a/b", "x", "a//./b", "a", "x/y/z"]
    faults = faults_of({**LONG, "files": [{"path": path, "text": ""} for path in paths]})
    assert faults == {
        "files.2.path": "is the same file as files.0.path",
        "files.0.path": "lies below files.3.path, which is a file",
        "files.4.path": "lies below files.1.path, which is a file",
    }


def test_good_files():
    fetch = {"url": "HTTP://h:80/x?y#z".lower(), "headers": {"Accept": "é"}, "username": "u", "passwordSecret": "s"}
    files = [
        {"path": "./a", "text": "\0é", "mode": "0600", "owner": "root:root"},
        {"path": "b/c", "base64": " AAEC\n/w== "},
        {"path": "b/d", "hostPath": "/etc/hostname", "owner": "0"},
        {"path": "e", "fetch": fetch},
    ]
    assert len(spec_of({**LONG, "files": files, "maskSecrets": True}).files) == 4


# -- download and extract


@pytest.mark.parametrize(
    ("machine", "parameters", "field", "words"),
    [
        ("download", None, "", '"url"'),
        ("download", [], "", '"url"'),
        ("download", {}, "url", "required"),
        ("download", {"url": "ftp://h/f"}, "url", "http:, https:, file:"),
        ("download", {"url": "h/f"}, "url", ""),
        ("download", {"url": "http:///f"}, "url", "no host"),
        ("download", {"url": "http://h:x/f"}, "url", "not a URL"),
        ("download", {"url": "http://[h/f"}, "url", "not a URL"),
        ("download", {"url": "http://h/"}, "url", 'say in "path"'),
        ("download", {"url": "http://h/a%2Fb"}, "url", 'say in "path"'),
        ("download", {"url": "http://h/%2e%2e"}, "url", 'say in "path"'),
        ("download", {"url": "file://h/f"}, "url", "names a host"),
        ("download", {"url": "file:f"}, "url", "file:///path"),
        ("download", {"url": "file:///f?x"}, "url", "file:///path"),
        ("download", {"url": "file:///f%00"}, "url", "NUL"),
        ("download", {"url": "file:///f", "headers": {"A": "b"}}, "headers", "without"),
        ("download", {"url": "file:///f", "bearerSecret": "s"}, "bearerSecret", "without"),
        ("download", {"url": "http://h/f", "path": "../f"}, "path", '".."'),
        ("download", {"url": "http://h/f", "path": "/f"}, "path", "absolute"),
        ("download", {"url": "http://h/f", "path": "d/"}, "path", "directory"),
        ("download", {"url": "http://h/f", "sha256": "0" * 63}, "sha256", ""),
        ("download", {"url": "http://h/f", "sha256": "g" * 64}, "sha256", ""),
        ("download", {"url": "http://h/f", "maxBytes": -1}, "maxBytes", ""),
        ("download", {"url": "http://h/f", "timeoutSeconds": 0}, "timeoutSeconds", ""),
        ("download", {"url": "http://h/f", "resumes": -1}, "resumes", ""),
        ("download", {"url": "http://h/f", "headers": {"Range": "bytes=0-1"}}, "headers.Range", "itself"),
        ("download", {"url": "http://u@h/f", "bearerSecret": "s"}, "bearerSecret", "url"),
        ("extract", "a.zip", "", '"path"'),
        ("extract", {}, "path", "required"),
        ("extract", {"path": "../a"}, "path", '".."'),
        ("extract", {"path": "."}, "path", "directory"),
        ("extract", {"path": "a", "into": "/b"}, "into", "absolute"),
        ("extract", {"path": "a", "into": "b/../c"}, "into", '".."'),
        ("extract", {"path": "a", "format": "rar"}, "format", "tar.zst"),
        ("extract", {"path": "a", "stripComponents": -1}, "stripComponents", ""),
        ("extract", {"path": "a", "maxBytes": 1.5}, "maxBytes", ""),
        ("extract", {"path": "a", "maxEntries": "5"}, "maxEntries", ""),
    ],
)
def test_what_a_machine_cannot_carry_out_is_refused(machine: str, parameters: Any, field: str, words: str):
    body = {"machine": machine, "parameters": parameters}
    for whole, where in ((body, "parameters"), ({**LONG, "cleanup": [body]}, "cleanup.0.parameters")):
        faults = faults_of(whole)
        assert words in faults[".".join(filter(None, (where, field)))]
        assert len(faults) == 1


def test_what_they_do_carry_out():
    headers = {"Accept": "x", "Authorization": "y"}
    for parameters in (
        {"url": "https://h/a/b%20c?x=y#z", "sha256": "Ab" * 32, "maxBytes": 0, "headers": headers, "resumes": 0},
        {"url": "http://u:p@[::1]:8080/", "path": "a/b/./c"},
        {"url": "file:///a%20b"},
        {"url": "file://localhost/a"},
    ):
        spec_of({"machine": "download", "parameters": parameters})
    for parameters in (
        {"path": "a"},
        {"path": "./a/b", "into": "./c/", "format": "tar.zst", "stripComponents": 2, "maxBytes": 0, "maxEntries": 0},
    ):
        spec_of({"machine": "extract", "parameters": parameters})


def test_a_signal_is_taken_by_its_name():
    for name in ("SIGINT", "SIGKILL", "SIGUSR2"):
        assert spec_of({**LONG, "stopSignal": name}).stop_signal == name


# -- echo


@pytest.mark.parametrize("lines", [["echo a", "", "frob", "sleep x"], "echo a\n\nfrob\nsleep x"])
def test_a_bad_line_of_a_script_is_refused_with_its_number(lines: Any):
    faults = faults_of({"machine": "echo", "parameters": lines})
    assert set(faults) == {"parameters.line 3", "parameters.line 4"}
    assert "frob" in faults["parameters.line 3"]
    long = faults_of({"actions": [{"machine": "echo", "parameters": "echo"}, {"machine": "echo", "parameters": lines}]})
    assert set(long) == {"actions.1.parameters.line 3", "actions.1.parameters.line 4"}


@pytest.mark.parametrize(
    "line",
    ["sleep", "sleep -1", "sleep nan", "sleep inf", "sleep 1e400", "sleep 1e9", "return", "return -1", "return 256",
     "return ²", "return 1.0", "log", "log loud x", "use", "use shared", "use both a", "use exclusive a\0",
     "cleanup now", "use exclusive " + "x" * 201, "cleanup\ncleanup", "cleanup\nuse shared a", "\0"],
)  # fmt: skip
def test_bad_lines(line: str):
    assert any(field.startswith("parameters.line") for field in faults_of({"machine": "echo", "parameters": line}))


@pytest.mark.parametrize("parameters", [5, None, {}, [1], [["echo a"]], True, ["echo a"] * 10_001])
def test_a_script_is_text_or_lines(parameters: Any):
    assert set(faults_of({"machine": "echo", "parameters": parameters})) == {"parameters"}


def test_good_lines():
    lines = [
        "# comment",
        "USE shared a b",
        "use EXCLUSIVE c # why",
        "echo",
        "Log Warning x # y",
        "sleep 0",
        "return 255",
    ]
    spec_of({"machine": "echo", "parameters": [*lines, "raise", "cleanup", "echo x"]})
    spec_of({"machine": "echo", "parameters": ""})


# -- bytes

GOOD = b'{"command": ["true"]}'

NOT_JSON = {
    "nothing": b"",
    "blanks": b" \r\n\t",
    "NUL": b"\0",
    "text": b"hello",
    "half": GOOD[:-1],
    "two": GOOD + GOOD,
    "rubbish behind": GOOD + b"x",
    "single quotes": GOOD.replace(b'"', b"'"),
    "comment": b"/* */" + GOOD,
    "comma": b'{"command": ["true"],}',
    "byte order mark": b"\xef\xbb\xbf" + GOOD,
    "UTF-16": GOOD.decode().encode("utf-16"),
    "UTF-16LE": GOOD.decode().encode("utf-16-le"),
    "UTF-32": GOOD.decode().encode("utf-32"),
    "Latin-1": '{"command": ["é"]}'.encode("latin-1"),
    "overlong": b'{"command": ["\xc0\xaf"]}',
    "surrogate in UTF-8": b'{"command": ["\xed\xa0\x80"]}',
    "lone surrogate": b'{"command": ["\\ud800"]}',
    "lone surrogate as a name": b'{"command": ["a"], "metadata": {"\\udc00": 1}}',
    "control character": b'{"command": ["\x01"]}',
    "line feed in text": b'{"command": ["a\nb"]}',
    "NaN": b'{"command": ["a"], "metadata": {"x": NaN}}',
    "Infinity": b'{"command": ["a"], "timeoutSeconds": Infinity}',
    "minus Infinity": b'{"command": ["a"], "graceSeconds": -Infinity}',
    "hexadecimal": b'{"command": ["a"], "graceSeconds": 0x10}',
    "number with too many digits": b'{"command": ["a"], "metadata": {"x": ' + b"9" * 5000 + b"}}",
    "number beyond all floats": b'{"command": ["a"], "metadata": {"x": 1e400}}',
    "deep array": b"[" * 100_000,
    "deep array, closed": b'{"command": ["a"], "metadata": {"x": ' + b"[" * 5000 + b"]" * 5000 + b"}}",
    "deep object": b'{"a":' * 100_000,
    "name twice": b'{"command": ["a"], "command": ["b"]}',
    "name twice, deep": b'{"command": ["a"], "metadata": {"x": [{"y": 1, "y": 1}]}}',
    "gzip": bytes.fromhex("1f8b0800000000000003"),
    "protobuf": b"\x0a\x04true",
    "form": b"command=true",
    "XML": b"<task/>",
}


@pytest.mark.parametrize("kind", NOT_JSON)
def test_what_is_not_json_is_refused(kind: str):
    assert faults_of(NOT_JSON[kind])


def test_a_name_that_stands_twice_is_named():
    assert "twice" in faults_of(NOT_JSON["name twice"])["command"]
    assert "twice" in faults_of(NOT_JSON["name twice, deep"])["y"]


def test_what_a_client_attaches_is_kept_as_it_is():
    metadata = {"é\u0000\U0001f600": [0.1, -0.0, 1e308, 2**70, None, True, {"": []}], "deep": _nested(150)}
    assert spec_of({**LONG, "metadata": metadata}).metadata == metadata


def _nested(depth: int) -> Any:
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


# -- anything at all

_text = st.text(st.characters(codec="utf-8"), max_size=8)
_numbers = st.one_of(st.integers(), st.integers(-(10**50), 10**50), st.floats(allow_nan=False, allow_infinity=False))
_any_json = st.recursive(
    st.one_of(st.none(), st.booleans(), _numbers, _text),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(_text, inner, max_size=3)),
    max_leaves=6,
)
_MORE = ["url", "path", "into", "headers", "sha256"]
_PARAMETERS = ["command", "shell", "env", "workingDirectory", "stdin", "openStdin", "sandbox", "sidecar"]
_FIELDS = [
    "name",
    "timeoutSeconds",
    "stopSignal",
    "graceSeconds",
    "tags",
    "metadata",
    "machine",
    "parameters",
    "actions",
    "cleanup",
    "files",
    "secrets",
    "notify",
    "after",
    "pools",
    "executeAt",
    "retry",
]
_plausible = st.one_of(
    _any_json,
    st.sampled_from(
        ["true", "echo", "process", "SIGTERM", 1, 0.5, ["true"], {"A": "b"}, ["echo a"], "echo a\nsleep 1", "http://h/f",
         "2030-01-31T03:00Z", [{"path": "a", "text": ""}], [{"name": "s", "env": "A"}], [{"url": "http://h"}], [{"task": "a"}]]
    ),
    st.lists(_text, min_size=1, max_size=3),
    st.dictionaries(_text, _text, max_size=2),
)
_parameters = st.dictionaries(st.sampled_from(_PARAMETERS + _MORE), _plausible, max_size=4)
_action = st.fixed_dictionaries({"machine": st.sampled_from(["process", "echo", "download", "extract"])}, optional={"parameters": _parameters})
_body = st.one_of(
    _any_json,
    st.dictionaries(st.sampled_from(_FIELDS + _PARAMETERS), _plausible, max_size=6),
    st.fixed_dictionaries({"actions": st.lists(_action | _any_json, max_size=3)}),
    st.builds(lambda more, command: {"command": command, **more},
              st.dictionaries(st.sampled_from(_FIELDS[:6]), _plausible, max_size=3), st.lists(_text, min_size=1, max_size=3)),
)  # fmt: skip


def check(raw: bytes) -> None:
    """Refused in words, or a spec that the runner reads as the daemon did and that can be told again."""
    try:
        spec = parse_spec(parse_json(raw))
    except InvalidRequest as error:
        assert str(error)
        assert error.fields
        return
    told = json.dumps(to_json(spec))
    assert from_json(Spec, json.loads(told)) == spec
    json.dumps(json.loads(told), allow_nan=False).encode()
    assert parse_spec(parse_json(told.encode())) == spec


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.binary(max_size=200))
def test_any_bytes(raw: bytes):
    check(raw)


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(_body)
def test_any_json(body: Any):
    check(json.dumps(body).encode())


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(_body, st.data())
def test_json_with_a_fault(body: Any, data: st.DataObject):
    raw = bytearray(json.dumps(body, ensure_ascii=False).encode())
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position : position + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=3))
    check(bytes(raw))


# -- query parameters


@pytest.mark.parametrize("text", ["", "-1", "+1", "1.0", "1e3", " 1", "²", "٣", "0x1", "1" * 30, "nan", "1_0", "\0"])
def test_a_whole_number_is_digits(text: str):
    with pytest.raises(InvalidRequest) as caught:
        params.Integer(name="offset", meaning="").read({"offset": text})
    assert caught.value.fields[0].field == "offset"


def test_bounds_of_a_whole_number():
    limit = params.Integer(name="limit", meaning="", default=7, low=5, high=5)
    assert limit.number({}) == 7
    assert limit.number({"limit": "5"}) == 5
    for text in ("4", "6"):
        with pytest.raises(InvalidRequest, match="from 5 to 5"):
            limit.number({"limit": text})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("1e9", 1e9), ("1970-01-01T00:00:10Z", 10.0), ("1970-01-01T01:00:00+01:00", 0.0), (None, None)],
)
def test_a_moment_is_seconds_or_a_stamp(text: str | None, seconds: float | None):
    assert params.Moment(name="to", meaning="").read({} if text is None else {"to": text}) == seconds


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "x", "2030-01-31", "2030-01-31T03:00:00", "1e400"])
def test_what_is_no_moment_is_refused_by_name(text: str):
    with pytest.raises(InvalidRequest) as caught:
        params.Moment(name="to", meaning="").read({"to": text})
    assert caught.value.fields[0].field == "to"


WAIT = params.Seconds(name="wait", meaning="", default=0.5, high=300)


@pytest.mark.parametrize("text", ["", "-1", "nan", "inf", "-inf", "1e400", "301", "x", "1,5", "\0"])
def test_seconds_are_a_number_within_bounds(text: str):
    with pytest.raises(InvalidRequest, match="wait"):
        WAIT.read({"wait": text})


def test_good_seconds():
    assert WAIT.read({}) == 0.5
    assert WAIT.read({"wait": "1.5"}) == 1.5
    assert WAIT.read({"wait": "300"}) == 300


def test_flags():
    flag = params.Flag(name="f", meaning="")
    assert [flag.read({"f": text}) for text in ("true", "1", "false", "0")] == [True, True, False, False]
    assert flag.read({}) is False
    assert params.Flag(name="f", meaning="", default=None).read({}) is None
    for text in ("", "yes", "TRUE", "2"):
        with pytest.raises(InvalidRequest, match="f:"):
            flag.read({"f": text})


def test_choices():
    assert params.Choices(name="state", meaning="", allowed=("a", "b", "c")).read({"state": "a,b,,a"}) == {"a", "b"}
    some = params.Choices(name="state", meaning="", allowed=("a", "b"))
    assert some.read({}) == frozenset()
    with pytest.raises(InvalidRequest, match="'d' is not one of a, b"):
        some.read({"state": "a,d"})
    assert params.Choice(name="order", meaning="", allowed=("asc",)).read({}) is None


def test_the_schema_describes_what_is_taken():
    described = schema()
    assert set(described["properties"]) >= {"actions", "name", "timeoutSeconds", "stopSignal", "graceSeconds", "tags"}
    assert described["required"] == ["actions"]
    machines = described["x-machines"]
    assert set(machines) == {"process", "container", "echo", "download", "extract"}
    assert set(machines["process"]["properties"]) == set(_PARAMETERS)
    assert machines["download"]["required"] == ["url"]
    assert machines["extract"]["required"] == ["path"]
    for name in machines:  # each machine that the schema knows is known where it is checked
        assert "no machine" not in str(faults_of({"machine": name, "parameters": 5}))


def test_of_very_many_faults_some_are_told():
    for body in (
        {"command": ["true"], **{f"field{n}": 1 for n in range(30_000)}},
        {"command": ["true"], "tags": dict.fromkeys(map(str, range(30_000)), 1)},
    ):
        assert 1 < len(faults_of(body)) <= 50
