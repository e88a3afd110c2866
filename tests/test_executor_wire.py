"""What the task-executor's clients send and see, without a daemon: reading, translating, showing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from executorclient import decoded

from task_runner.api.dialects.executor.gojson import encode
from task_runner.api.dialects.executor.process import body_of_process, check_name, in_their_words
from task_runner.api.dialects.executor.sync import plan
from task_runner.api.dialects.executor.tasks import body_of
from task_runner.api.dialects.executor.view import task_json, whole_seconds
from task_runner.api.dialects.executor.wire import Asked, Process, Variable, read_task, read_tasks
from task_runner.errors import InvalidRequest
from task_runner.model.codec import to_json
from task_runner.model.state import Outcome, State
from task_runner.model.status import Heartbeat, Identity, Status
from task_runner.service.settings import Settings
from task_runner.service.task import Record, Task
from task_runner.service.validate import parse_spec

SETTINGS = Settings(state_dir="/nowhere")
BORN, BEGUN, DONE = "2026-01-31T12:00:00.100000Z", "2026-01-31T12:00:01.900000Z", "2026-01-31T12:00:09.999999Z"
BEGUN_SHOWN, DONE_SHOWN = "2026-01-31T12:00:01Z", "2026-01-31T12:00:09Z"


# -- reading


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("", "EOF"),
        (" \n", "EOF"),
        ("{", "unexpected EOF"),
        ('{"name": "x', "unexpected EOF"),
        ('{"name"', "unexpected EOF"),
        ("nope", "invalid character 'n' looking for beginning of value"),
        ("{name: 1}", "invalid character 'n' looking for beginning of object key string"),
        ('{"name" 1}', "invalid character '1' after object key"),
        ('{"name": NaN}', "invalid character 'N' looking for beginning of value"),
        ("[" * 100_000, "exceeded max depth"),
        ('{"x": ' + "7" * 5000 + "}", "json: a number of 5000 digits is not read here"),
        # kept, it would be shown as Infinity, and no client could read the list any more
        (
            '{"podTemplateSpec": {"metadata": -1e400}}',
            "json: cannot unmarshal number -1e400 into Go value of type float64",
        ),
        ("[]", "json: cannot unmarshal array into Go value of type task_executor.Task"),
        ("7", "json: cannot unmarshal number 7 into Go value of type task_executor.Task"),
        ('{"name": 5}', "json: cannot unmarshal number into Go struct field Task.name of type string"),
        ('{"name": {}}', "json: cannot unmarshal object into Go struct field Task.name of type string"),
        (
            '{"process": {"command": "ls"}}',
            "json: cannot unmarshal string into Go struct field Process.process.command of type []string",
        ),
        (
            '{"process": {"args": [true]}}',
            "json: cannot unmarshal bool into Go struct field Process.process.args of type string",
        ),
        (
            '{"process": {"timeoutSeconds": 1.5}}',
            "json: cannot unmarshal number 1.5 into Go struct field Process.process.timeoutSeconds of type int64",
        ),
        (
            '{"process": {"timeoutSeconds": 9223372036854775808}}',
            (
                "json: cannot unmarshal number 9223372036854775808 into Go struct field Process.process.timeoutSeconds"
                " of type int64"
            ),
        ),
        (
            '{"process": {"env": [{"name": 1}]}}',
            "json: cannot unmarshal number into Go struct field EnvVar.process.env.name of type string",
        ),
        (
            '{"spec": {"process": []}}',
            "json: cannot unmarshal array into Go struct field TaskSpec.spec.process of type task_executor.Process",
        ),
    ],
)
def test_what_is_wrong_with_a_body_is_said_as_go_says_it(body: str, said: str):
    with pytest.raises(InvalidRequest) as error:
        read_task(body.encode())
    assert str(error.value) == said


def test_what_go_passes_over_is_passed_over():
    body = '{"NAME":"a","Process":{"COMMAND":["ls",null],"x":1},"status":{"state":7},"deletionTimestamp":null} trailing {'
    assert read_task(body.encode()) == Asked(name="a", process=Process(command=["ls", ""]))
    assert read_task(b"null") == read_task(b"{}") == Asked()
    assert read_tasks(b"null") == read_tasks(b"[]") == []
    assert read_tasks(b'[null, {"name": "a"}]') == [Asked(), Asked(name="a")]


def test_of_a_name_that_stands_twice_the_later_counts():
    assert read_task(b'{"name":"a","NAME":"b","name":"c"}').name == "c"
    assert read_task(b'{"name":"a","name":"c","NAME":"b"}').name == "b"


def test_what_is_no_unicode_becomes_the_replacement_character():
    assert read_task(b'{"name":"a\xff"}').name == "a\ufffd"
    assert read_task(b'{"name":"a\\ud800b \\ud83d\\ude00"}').name == "a\ufffdb \U0001f600"


def test_the_shape_of_the_guide_is_read_too():
    sent = {"name": "a", "spec": {"process": {"command": ["ls"]}, "timeoutSeconds": 7}}
    assert read_task(json.dumps(sent).encode()) == Asked(
        name="a", process=Process(command=["ls"], timeout_seconds=7), timeout_seconds=7, guide=True
    )
    container = {"image": "busybox", "command": ["true"]}
    asked = read_task(json.dumps({"name": "a", "spec": {"container": container}}).encode())
    assert (asked.process, asked.container, asked.guide) == (None, container, True)


def test_beside_the_flat_shape_that_of_the_guide_does_not_count():
    sent = {"name": "a", "process": {"command": ["flat"]}, "spec": {"process": {"command": ["guide"]}}}
    assert read_task(json.dumps(sent).encode()) == Asked(name="a", process=Process(command=["flat"]))


def test_answers_are_written_as_go_writes_them():
    assert encode({"a": "<&>\u2028ü"}) == '{"a":"\\u003c\\u0026\\u003e\\u2028ü"}\n'.encode()


# -- translating


def test_a_process_becomes_a_spec():
    process = Process(
        command=["echo", "$HOME"],
        args=["it's"],
        env=[
            Variable(name="A", value="1"),
            Variable(name="A", value="2"),
            Variable(name="B"),
            Variable(value="nobody's"),
        ],
        working_dir="/tmp",
        timeout_seconds=60,
    )
    spec = parse_spec(body_of(Asked(name="job", process=process), SETTINGS))
    assert [to_json(action, sparse=True) for action in spec.actions] == [
        {
            "machine": "process",
            "parameters": {
                "command": ["echo", "$HOME", "it's"],
                "env": {"A": "2", "B": ""},
                "workingDirectory": "/tmp",
            },
        }
    ]
    assert (spec.alias, spec.name, spec.timeout_seconds, spec.grace_seconds) == ("executor:job", "job", 60, 10)
    assert spec.retry is None


@pytest.mark.parametrize(("asked", "given"), [(None, None), (5, 5), (0, 0.001), (-3, 0.001)])
def test_a_time_limit_of_nothing_is_over_at_once(asked: int | None, given: float | None):
    body = body_of_process(Asked(name="job"), Process(command=["true"], timeout_seconds=asked))
    assert body.get("timeoutSeconds") == given


@pytest.mark.parametrize("process", [Process(), Process(command=[]), Process(command=[], args=[])])
def test_a_process_without_a_word_is_refused(process: Process):
    with pytest.raises(InvalidRequest, match=r"no command specified in process spec \(task name: job\)"):
        body_of_process(Asked(name="job"), process)
    body = body_of_process(Asked(name="job"), Process(args=["true"]))
    assert body["actions"][0]["parameters"]["command"] == ["true"]


# upstream: TestSafeJoin
@pytest.mark.parametrize("name", ["foo", "foo/bar", "/etc/passwd", "..foo", "foo/../bar", "a b", "ü"])
def test_safe_join_takes(name: str):
    check_name(name)


# upstream: TestSafeJoin
@pytest.mark.parametrize("name", ["../foo", "foo/../../bar", "..", "/../foo"])
def test_safe_join_rejects(name: str):
    with pytest.raises(InvalidRequest, match="path traversal detected"):
        check_name(name)


@pytest.mark.parametrize(
    ("guide", "ours", "theirs"),
    [
        (False, "actions.0.parameters.command.1", "process.command.1"),
        (False, "actions.0.parameters.command.3", "process.args.1"),
        (True, "actions.0.parameters.command.3", "spec.process.args.1"),
        (False, "actions.0.parameters.env.A=B", "process.env.A=B"),
        (True, "actions.0.parameters.workingDirectory", "spec.process.workingDir"),
        (False, "timeoutSeconds", "process.timeoutSeconds"),
        (True, "alias", "name"),
    ],
)
def test_refusals_name_the_fields_of_the_client(guide: bool, ours: str, theirs: str):
    asked = Asked(name="a", process=Process(command=["x", "y"], args=["z", "zz"]), guide=guide)
    assert [fault.field for fault in in_their_words(InvalidRequest.at(ours, "no"), asked).fields] == [theirs]


def test_what_is_wrong_with_a_name_is_said_once():
    asked = Asked(name="a\tb", process=Process(command=["true"]))
    with pytest.raises(InvalidRequest) as error:  # it is our name and alias
        parse_spec(body_of(asked, SETTINGS))
    assert [fault.field for fault in in_their_words(error.value, asked).fields] == ["name"]


# -- what leads from one set of tasks to another


def known(name: str) -> Task:
    return task(State.RUNNING, name=name)


def test_a_plan_keeps_what_is_wanted_and_known():
    steps = plan([known("a"), known("b")], [Asked(name="b"), Asked(name="c"), Asked()])
    assert ([each.alias for each in steps.delete], [each.name for each in steps.create]) == (["executor:a"], ["c"])


def test_of_wanted_tasks_with_one_name_the_last_counts():
    first, last = Asked(name="a", guide=True), Asked(name="a", process=Process(command=["ls"]))
    assert plan([], [first, last]).create == [last]


# -- showing


def task(
    state: State,
    outcome: Outcome | None = None,
    *,
    name: str = "job",
    process: Process | None = None,
    guide: bool = False,
    started: str | None = BEGUN,
    error: str | None = None,
    **status: Any,
) -> Task:
    asked = Asked(name=name, process=process or Process(command=["ls"]), guide=guide)
    said = Status(
        task_id="1" * 16,
        runner=Identity(pid=1, start_time=1, boot_id="b"),
        state=state,
        heartbeat=Heartbeat(at=BEGUN, monotonic=1.0),
        started_at=started,
        **status,
    )
    return Task(
        id="1" * 16,
        seq=1,
        spec_json=json.dumps(body_of(asked, SETTINGS)),
        name=name,
        tags={},
        alias=f"executor:{name}",
        record=Record(
            state=state,
            outcome=outcome,
            origin="executor",
            created_at=BORN,
            finished_at=DONE if outcome else None,
            status=None if state in (State.SCHEDULED, State.PENDING) or started is None else said,
            error=error,
        ),
    )


def shown(*arguments: Any, **options: Any) -> dict[str, Any]:
    body = task_json(task(*arguments, **options), "no room" if arguments[0] is State.PENDING else None)
    decoded(body)
    return body


WAITING = {"waiting": {"reason": "Pending"}}
RUNNING = {"running": {"startedAt": BEGUN_SHOWN}}


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (State.SCHEDULED, WAITING),
        (State.PENDING, {"waiting": {"reason": "Pending", "message": "no room"}}),
        (State.STARTING, WAITING),
        (State.PROVISIONING, WAITING),
        (State.RUNNING, RUNNING),
        (State.PAUSED, RUNNING),
        (State.STOPPING, RUNNING),
        (State.UNKNOWN, RUNNING),
    ],
)
def test_a_task_that_is_not_over_is_waiting_or_running(state: State, status: dict[str, Any]):
    assert shown(state) == {"name": "job", "process": {"command": ["ls"]}, "processStatus": status}


def ended(outcome: Outcome, **options: Any) -> dict[str, Any]:
    state = State.LOST if outcome is Outcome.LOST else State.EXITED
    terminated = dict(shown(state, outcome, **options)["processStatus"]["terminated"])
    started = None if options.get("started", BEGUN) is None else BEGUN_SHOWN
    assert (terminated.pop("startedAt"), terminated.pop("finishedAt")) == (started, DONE_SHOWN)
    return terminated


# upstream: TestIsTerminalState, TestConvertInternalToAPITask
@pytest.mark.parametrize(
    ("outcome", "options", "told"),
    [
        (Outcome.SUCCEEDED, {"exit_code": 0}, {"exitCode": 0, "reason": "Succeeded"}),
        (Outcome.FAILED, {"exit_code": 3}, {"exitCode": 3, "reason": "Failed"}),
        (Outcome.FAILED, {"signal": "SIGSEGV"}, {"exitCode": 139, "signal": 11, "reason": "Failed"}),
        (
            Outcome.FAILED,
            {"error": "x: no such program in /bin"},
            {"exitCode": 127, "reason": "Failed", "message": "x: no such program in /bin"},
        ),
        (
            Outcome.FAILED,
            {"error": "/x: Permission denied"},
            {"exitCode": 126, "reason": "Failed", "message": "/x: Permission denied"},
        ),
        (
            Outcome.LOST,
            {"error": "its runner is gone"},
            {
                "exitCode": 137,
                "reason": "ProcessCrashed",
                "message": "Process exited without writing exit code: its runner is gone",
            },
        ),
        (
            Outcome.CANCELLED,
            {"signal": "SIGTERM"},
            {"exitCode": 143, "signal": 15, "reason": "Failed", "message": "Task was stopped"},
        ),
        (
            Outcome.CANCELLED,
            {"signal": "SIGKILL"},
            {"exitCode": 137, "signal": 9, "reason": "Failed", "message": "Task was stopped"},
        ),
        (
            Outcome.CANCELLED,
            {"exit_code": 0},
            {
                "exitCode": 143,
                "reason": "Failed",
                "message": "Task was stopped; its command ended with exit code 0",
            },
        ),
        (
            Outcome.CANCELLED,
            {"started": None},
            {"exitCode": 143, "reason": "Failed", "message": "Task was stopped before it started"},
        ),
    ],
)
def test_how_a_task_ended(outcome: Outcome, options: dict[str, Any], told: dict[str, Any]):
    assert ended(outcome, **options) == told


# upstream: TestConvertInternalToAPITask_Timeout
def test_a_task_out_of_time_is_terminated_with_137():
    process = Process(command=["sleep", "100"], timeout_seconds=60)
    assert ended(Outcome.TIMED_OUT, process=process, signal="SIGTERM") == {
        "exitCode": 137,
        "signal": 15,
        "reason": "TaskTimeout",
        "message": "Task exceeded timeout of 60 seconds",
    }


def test_a_task_asked_for_in_the_shape_of_the_guide_is_shown_in_both():
    status = {"running": {"startedAt": BEGUN_SHOWN}}
    assert shown(State.RUNNING, guide=True) == {
        "name": "job",
        "process": {"command": ["ls"]},
        "processStatus": status,
        "spec": {"process": {"command": ["ls"]}},
        "status": {"state": status},
    }
    waiting = shown(State.STARTING, guide=True)
    assert waiting["status"] == {"state": {"waiting": {"reason": "Initialized"}}}
    assert waiting["processStatus"] == WAITING


def test_a_process_is_shown_with_what_was_given_of_it():
    full = Process(
        command=["a"], args=["b"], env=[Variable(name="N", value="v")], working_dir="/tmp", timeout_seconds=0
    )
    assert full.json() == {
        "command": ["a"],
        "args": ["b"],
        "env": [{"name": "N", "value": "v"}],
        "workingDir": "/tmp",
        "timeoutSeconds": 0,
    }
    assert Process(args=["b"]).json() == {"command": None, "args": ["b"]}


def test_a_task_without_the_words_of_its_client_is_shown_without_them():
    bare = task(State.RUNNING)
    bare.spec_json = json.dumps({"actions": [{"machine": "process", "parameters": {"command": ["ls"]}}]})
    assert task_json(bare, None) == {"name": "job", "processStatus": RUNNING}


def test_times_have_whole_seconds():
    assert whole_seconds("2026-01-31T23:59:59.999999Z") == "2026-01-31T23:59:59Z"
    assert whole_seconds(None) is None
