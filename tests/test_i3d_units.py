"""i3D.net's task system: what is decided without a daemon."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from task_runner.api.dialects.i3d.form import OPENAPI, PROSE
from task_runner.api.dialects.i3d.orders import read_order
from task_runner.api.dialects.i3d.params import for_instance, renamed, typed
from task_runner.api.dialects.i3d.results import failed_action, result_code, result_text
from task_runner.api.dialects.i3d.templates import chosen, template_id, template_json
from task_runner.api.dialects.i3d.view import batch_json, last_line, task_json
from task_runner.errors import FieldError, InvalidRequest
from task_runner.model.spec import Action, Spec
from task_runner.model.state import FINAL, Outcome, State
from task_runner.model.status import ActionStatus, Heartbeat, Identity, Output, Status
from task_runner.model.template import Template
from task_runner.service.batch import Batch, Counts
from task_runner.service.batches import Standing
from task_runner.service.explanation import LastOutput
from task_runner.service.task import Record, Task
from task_runner.service.templatefiles import Known
from task_runner.service.templateform import parse_template

CREATED = "2019-07-18T16:59:34.200000Z"
STARTED = "2019-07-18T16:59:35.100000Z"
FINISHED = "2019-07-18T16:59:36.900000Z"


# -- codes and texts


@pytest.mark.parametrize(
    ("state", "code"),
    [
        (State.SCHEDULED, 0),
        (State.PENDING, 0),
        (State.STARTING, 0),
        (State.PROVISIONING, 1),
        (State.RUNNING, 1),
        (State.PAUSED, 2),
        (State.STOPPING, 1),
        (State.UNKNOWN, 1),
    ],
)
def test_every_state_has_its_code(state: State, code: int):
    assert result_code(state, None, PROSE) == result_code(state, None, OPENAPI) == code


@pytest.mark.parametrize(
    ("outcome", "prose", "openapi"),
    [
        (Outcome.SUCCEEDED, 127, 127),
        (Outcome.FAILED, 126, 126),
        (Outcome.CANCELLED, 124, 125),
        (Outcome.TIMED_OUT, 125, 126),
        (Outcome.LOST, 126, 126),
    ],
)
def test_every_outcome_has_its_code(outcome: Outcome, prose: int, openapi: int):
    state = State.LOST if outcome is Outcome.LOST else State.EXITED
    assert (result_code(state, outcome, PROSE), result_code(state, outcome, OPENAPI)) == (prose, openapi)


def test_no_state_is_forgotten():
    assert all(isinstance(result_code(state, None, PROSE), int) for state in State if state not in FINAL)
    assert all(isinstance(result_code(State.EXITED, outcome, PROSE), int) for outcome in Outcome)


def record(state: State = State.EXITED, outcome: Outcome | None = None, **more: Any) -> Record:
    return Record(state=state, outcome=outcome, created_at=CREATED, **more)


def action(index: int = 0, outcome: Outcome | None = Outcome.FAILED, **more: Any) -> ActionStatus:
    return ActionStatus(index=index, machine="process", outcome=outcome, **more)


@pytest.mark.parametrize(
    ("state", "outcome", "error", "text"),
    [
        (State.PENDING, None, None, "Pending Task execution: entity 7 is busy"),
        (State.RUNNING, None, None, "In progress"),
        (State.STOPPING, None, None, "In progress: being stopped"),
        (State.PAUSED, None, None, "Paused"),
        (State.EXITED, Outcome.SUCCEEDED, None, "Done"),
        (State.EXITED, Outcome.CANCELLED, None, "Cancelled"),
        (State.EXITED, Outcome.CANCELLED, "a task before it failed", "Cancelled: a task before it failed"),
        (State.EXITED, Outcome.TIMED_OUT, None, "Timed out"),
        (State.EXITED, Outcome.FAILED, None, "Done, with error"),
        (State.EXITED, Outcome.FAILED, "there is no space", "there is no space"),
        (State.LOST, Outcome.LOST, "the machine was restarted", "Lost: the machine was restarted"),
    ],
)
def test_the_text_says_why(state: State, outcome: Outcome | None, error: str | None, text: str):
    reason = "entity 7 is busy" if state is State.PENDING else None
    assert result_text(record(state, outcome, error=error), waits_for=reason, failed=None, said=None) == text


@pytest.mark.parametrize(
    ("failed", "said", "text"),
    [
        (action(name="Stop instance", exit_code=3), None, "Stop instance: exit code 3"),
        (action(exit_code=1), "no such build", "process: exit code 1: no such build"),
        (action(name="Start", signal="SIGSEGV"), None, "Start: ended by SIGSEGV"),
        (action(error="x: no such program"), None, "process: x: no such program"),
    ],
)
def test_a_failure_names_its_action(failed: ActionStatus, said: str | None, text: str):
    assert result_text(record(outcome=Outcome.FAILED), waits_for=None, failed=failed, said=said) == text


def test_a_long_text_is_cut():
    text = result_text(record(outcome=Outcome.LOST, error="x" * 5000), waits_for=None, failed=None, said=None)
    assert (len(text), text[-1]) == (500, "…")


def spec(*tolerated: bool, cleanup: int = 0) -> Spec:
    actions = [Action(machine="process", continue_on_failure=each) for each in tolerated]
    return Spec(actions=actions, cleanup=[Action(machine="process")] * cleanup)


def status(*actions: ActionStatus, **more: Any) -> Status:
    runner = Identity(pid=1, start_time=1, boot_id="b")
    beat = Heartbeat(at=FINISHED, monotonic=1.0)
    return Status(task_id="t", runner=runner, state=State.EXITED, heartbeat=beat, actions=list(actions), **more)


def test_the_action_that_counts_is_the_first_that_may_not_fail():
    ran = status(action(0), action(1, Outcome.SUCCEEDED), action(2), action(3, None))
    found = failed_action(ran, spec(True, False, False, False))
    assert found is not None
    assert found.index == 2
    assert failed_action(status(action(0)), spec(True)) is None
    assert failed_action(None, spec(False)) is None


def test_the_cleanup_counts_where_all_else_went_well():
    found = failed_action(status(action(0, Outcome.SUCCEEDED), action(1, cleanup=True)), spec(False, cleanup=1))
    assert found is not None
    assert found.index == 1


def written(text: str | None, size: int | None = None, stream: str = "output") -> LastOutput:
    return LastOutput(stream=stream, bytes=len(text or "") if size is None else size, text=text)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (written("one\ntwo\nthree\n"), "three"),
        (written("one\ntwo\n\n"), "two"),
        (written("one\ntwo\nthree\n", 20), None),  # something else wrote after it
        (written(None, 14), None),  # not text
    ],
)
def test_the_last_line_of_the_failed_action_is_told(output: LastOutput, said: str | None):
    end = 9 if output.bytes == 9 else 14
    assert last_line(action(output_start=4, output_end=end), [output]) == said


def test_what_an_earlier_action_wrote_is_not_told():
    assert last_line(action(output_start=4, output_end=4), [written("one\n")]) is None
    assert last_line(action(output_start=4, output_end=5), [written("one\n\n")]) is None


def test_an_error_stream_of_its_own_comes_first():
    both = [written("fine\n", stream="stdout"), written("not fine\n", stream="stderr")]
    assert last_line(action(output_start=0, output_end=5, stderr_start=0, stderr_end=9), both) == "not fine"
    assert last_line(action(output_start=0, output_end=5, stderr_start=0, stderr_end=0), both) == "fine"


# -- tasks and batches


def task(known: Record, **more: Any) -> Task:
    given = {"id": "0" * 16, "seq": 12278257, "name": "deploy", "tags": {}, "spec_json": '{"actions": []}', **more}
    return Task(record=known, **given)


DONE = record(
    outcome=Outcome.SUCCEEDED,
    finished_at=FINISHED,
    status=status(started_at=STARTED, finished_at=FINISHED, current_action_idx=6, output=Output()),
)


def test_a_task_is_shown_as_in_the_documentation():
    shown = task_json(task(DONE, entity="2897954287466354361"), PROSE, batch=None, waits_for=None, output=())
    assert shown == {
        "id": 12278257,
        "batchId": 0,
        "categoryId": 2,
        "entityId": 2897954287466354361,
        "currentActionIdx": 6,
        "executeAt": 1563469175,
        "lastActivityAt": 1563469176,
        "finishedAt": 1563469176,
        "resultCode": 127,
        "resultText": "Done",
    }


def test_a_task_of_the_openapi_form_has_a_name_and_another_category():
    known = replace(DONE, template="deploy it")
    for name, expected in (("deploy", "deploy"), (None, "deploy it")):
        shown = task_json(task(known, name=name, entity="7"), OPENAPI, batch=3, waits_for=None, output=())
        assert (shown["name"], shown["categoryId"], shown["batchId"]) == (expected, 1, 3)


def test_a_task_that_has_not_started_has_nothing_yet():
    shown = task_json(task(record(State.PENDING), entity="7"), PROSE, batch=9, waits_for=None, output=())
    names = ("currentActionIdx", "executeAt", "lastActivityAt", "finishedAt")
    assert [shown[name] for name in names] == [-1, 0, 0, 0]
    planned = record(State.SCHEDULED, execute_at="2030-01-01T00:00:00.000000Z")
    shown = task_json(task(planned, entity="7"), PROSE, batch=9, waits_for=None, output=())
    assert (shown["executeAt"], shown["resultText"]) == (1893456000, "Pending Task execution")


def test_a_task_without_an_instance_is_shown_all_the_same():
    assert task_json(task(DONE), PROSE, batch=None, waits_for=None, output=())["entityId"] == 0
    assert task_json(task(DONE, entity="gs-1"), PROSE, batch=None, waits_for=None, output=())["entityId"] == 0


BATCH = Batch(
    id="b", seq=9, name=None, created_at="2019-06-06T14:32:09Z", num_tasks=3, removed=Counts(), metadata=None
)
COUNTS = {"finishedAt": None, "numTasks": 3, "numTasksOk": 1, "numTasksFailed": 0, "numTasksCancelled": 1}
STANDINGS = [
    Standing(11238257, State.EXITED, Outcome.SUCCEEDED),
    Standing(11238258, State.EXITED, Outcome.CANCELLED),
    Standing(11238259, State.RUNNING, None),
]


def test_a_batch_is_shown_as_in_the_documentation():
    assert batch_json(BATCH, COUNTS, STANDINGS, PROSE) == {
        "id": 9,
        "createdAt": 1559831529,
        "executeAt": 1559831529,
        "finishedAt": 0,
        "numTasks": 3,
        "numTasksOk": 1,
        "numTasksFailed": 0,
        "numTasksCancelled": 1,
        "taskIds": {"11238257": 127, "11238258": 124, "11238259": 1},
    }


def test_a_batch_of_the_openapi_form_lists_its_tasks():
    over = batch_json(BATCH, {**COUNTS, "finishedAt": "2019-06-06T14:32:14Z"}, STANDINGS, OPENAPI)
    assert (over["taskIds"], over["finishedAt"]) == ([11238257, 11238258, 11238259], 1559831534)


def test_a_batch_knows_when_it_is_to_run():
    later = replace(BATCH, metadata={"i3d": {"executeAt": 1893456000}})
    assert batch_json(later, COUNTS, STANDINGS, PROSE)["executeAt"] == 1893456000


# -- what a client asks for


def order(**body: Any) -> Any:
    return read_order({"taskTemplateId": "5", "applicationInstanceIds": ["7"], **body}, PROSE)


def faults(**body: Any) -> dict[str, str]:
    with pytest.raises(InvalidRequest) as caught:
        order(**body)
    return {fault.field: fault.message for fault in caught.value.fields}


def test_an_order_is_read():
    read = order(
        taskTemplateId=5,
        applicationInstanceIds=["7", 8, "2897954287466354361"],
        executeAt=1893456000,
        taskActionParam=[{"paramName": "buildId", "paramValue": "3"}],
        fleetId="0",
        regionId="",
        labels=[],
        filters=None,
    )
    assert (read.template, read.instances) == ("5", ("7", "8", "2897954287466354361"))
    assert (read.execute_at, read.values) == (1893456000, {"buildId": "3"})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"taskTemplateId": None}, "taskTemplateId"),
        ({"taskTemplateId": True}, "taskTemplateId"),
        ({"taskTemplateId": ""}, "taskTemplateId"),
        ({"applicationInstanceIds": []}, "applicationInstanceIds"),
        ({"applicationInstanceIds": "7"}, "applicationInstanceIds"),
        ({"applicationInstanceIds": ["1"] * 10_001}, "applicationInstanceIds"),
        *(
            ({"applicationInstanceIds": ["1", each]}, "applicationInstanceIds.1")
            for each in ("", "0", "007", "-7", "7.0", " 7", "\u0667", "x", "1", True, None, 7.5, 2**63, "9" * 30)
        ),
        ({"executeAt": -1}, "executeAt"),
        ({"executeAt": "soon"}, "executeAt"),
        ({"executeAt": 1.5}, "executeAt"),
        ({"executeAt": True}, "executeAt"),
        ({"executeAt": 253_402_300_800}, "executeAt"),
        ({"taskActionParam": {"a": "b"}}, "taskActionParam"),
        ({"taskActionParam": [{"paramName": "a"}]}, "taskActionParam.0"),
        ({"taskActionParam": [{"paramName": 1, "paramValue": "b"}]}, "taskActionParam.0"),
        ({"taskActionParam": [{"paramName": "a", "paramValue": "b", "c": "d"}]}, "taskActionParam.0"),
        ({"taskActionParam": [{"paramName": "a", "paramValue": "b"}] * 2}, "taskActionParam.1"),
        ({"instances": ["7"]}, "instances"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused_by_field(body: dict[str, Any], field: str):
    assert list(faults(**body)) == [field]


@pytest.mark.parametrize("name", ["fleetId", "regionId", "labels", "filters"])
def test_what_this_daemon_does_not_know_is_refused_with_the_remedy(name: str):
    value = [{"key": "a", "value": "b"}] if name in ("labels", "filters") else "5"
    assert "name the instances in applicationInstanceIds" in faults(**{name: value})[name]


def test_everything_that_is_wrong_is_told_at_once():
    assert set(faults(taskTemplateId=None, executeAt=-1, fleetId="1")) == {"taskTemplateId", "executeAt", "fleetId"}


def test_what_clients_of_the_openapi_form_could_not_read_back_is_refused():
    body = {"taskTemplateId": "5", "applicationInstanceIds": ["2147483647", "2147483648"], "executeAt": 2**31}
    with pytest.raises(InvalidRequest) as caught:
        read_order(body, OPENAPI)
    assert [fault.field for fault in caught.value.fields] == ["applicationInstanceIds.1", "executeAt"]


# -- parameters and templates


def template(**parameters: Any) -> Template:
    return parse_template({"task": {"command": ["true"]}, "parameters": parameters})


@pytest.mark.parametrize(
    ("kind", "given", "value"),
    [
        ("string", "5", "5"),
        ("string", 5, "5"),
        ("string", True, True),  # refused by the template
        ("integer", "5", 5),
        ("integer", " -5 ", -5),
        ("integer", 5, 5),
        ("integer", "5.5", "5.5"),
        ("integer", "5x", "5x"),
        ("integer", "1_0", "1_0"),
        ("number", "5", 5),
        ("number", "5.5", 5.5),
        ("number", "1e3", 1000.0),
        ("number", "nan", "nan"),
        ("boolean", "true", True),
        ("boolean", "False", False),
        ("boolean", "1", True),
        ("boolean", "0", False),
        ("boolean", "yes", "yes"),
        ("boolean", False, False),
    ],
)
def test_values_become_what_the_template_declares(kind: str, given: Any, value: Any):
    found = typed(template(x={"type": kind}), {"x": given})["x"]
    assert (found, type(found)) == (value, type(value))


def test_what_a_template_does_not_take_is_left_for_it_to_refuse():
    assert typed(template(x={}), {"y": "1"}) == {"y": "1"}


def test_a_template_gets_the_instance_where_it_wants_it():
    assert for_instance(template(x={}), {"x": "1"}, "77") == {"x": "1"}
    assert for_instance(template(applicationInstanceId={}), {}, "77") == {"applicationInstanceId": "77"}
    declared = template(applicationInstanceId={"type": "integer"})
    assert for_instance(declared, {}, "77") == {"applicationInstanceId": 77}
    with pytest.raises(InvalidRequest):
        typed(declared, {"applicationInstanceId": "78"})


def test_faults_are_told_at_the_fields_of_the_client():
    fields = ["tasks.0.parameters.buildId", "tasks.1.parameters.buildId", "template", "executeAt", "tasks.0.user"]
    error = renamed(InvalidRequest(fields=[FieldError(field, "no") for field in fields]), "taskActionParam.")
    assert [(fault.field, fault.message) for fault in error.fields] == [
        ("taskActionParam.buildId", "no"),
        ("taskTemplateId", "no"),
        ("executeAt", "no"),
        ("taskTemplateId", "user: no"),
    ]


def test_the_number_of_a_template_is_the_same_for_ever():
    assert (template_id("deploy"), template_id("start")) == (DEPLOY_ID, START_ID)
    assert all(0 < template_id(str(n)) < 2**31 for n in range(2000))


DEPLOY_ID, START_ID = 935155139, 1290610888


def known(name: str, error: str | None = None) -> Known:
    made = None if error else template()
    return Known(name=name, origin="store", updated_at=CREATED, template=made, error=error)


def test_a_template_is_chosen_by_number_or_name():
    both = [known("deploy"), known("start")]
    for wanted in ("start", str(START_ID)):
        assert chosen(both, wanted).name == "start"


@pytest.mark.parametrize(
    ("templates", "wanted", "message"),
    [
        ([known("deploy")], "5", "there is no template '5'"),
        ([known("start"), known(str(template_id("start")))], str(template_id("start")), "rename one of them"),
        ([known("start", "it is not TOML")], "start", "cannot be used: it is not TOML"),
    ],
)
def test_a_template_that_cannot_be_meant_is_refused(templates: list[Known], wanted: str, message: str):
    with pytest.raises(InvalidRequest, match=message) as caught:
        chosen(templates, wanted)
    assert [fault.field for fault in caught.value.fields] == ["taskTemplateId"]


def test_two_templates_with_one_number_are_told_apart_by_name():
    both = [known("t2605"), known("t37467")]
    assert {template_id(each.name) for each in both} == {176440758}
    with pytest.raises(InvalidRequest, match="'176440758' is of the templates 't2605' and 't37467': rename one"):
        chosen(both, "176440758")
    assert chosen(both, "t37467").name == "t37467"


STEPS = parse_template(
    {
        "description": "all of it",
        "parameters": {
            "buildId": {"description": "The ID of the applicationBuild."},
            "timeout": {"type": "integer"},
            "methodId": {"type": "integer", "default": 2},
            "applicationInstanceId": {},
            "priority": {"type": "integer"},
        },
        "task": {
            "priority": "${priority}",
            "actions": [
                {"machine": "download", "name": "Download software build", "parameters": {"url": "http://b/${buildId}"}},
                {"machine": "process", "parameters": {"command": ["stop", "${methodId}", "${applicationInstanceId}"]}},
            ],
            "cleanup": [{"machine": "process", "parameters": {"command": ["true"]}, "timeoutSeconds": "${timeout}"}],
        },
    }
)


def test_a_template_is_shown_as_in_the_documentation():
    download = {"buildId": "The ID of the applicationBuild.", "priority": ""}
    assert template_json("all", STEPS, PROSE) == {
        "id": template_id("all"),
        "name": "all",
        "description": "all of it",
        "actions": [
            {"idx": 0, "actionType": "Download software build", "requiredParams": download},
            {"idx": 1, "actionType": "process", "requiredParams": None},
            {"idx": 2, "actionType": "process", "requiredParams": {"timeout": ""}},
        ],
    }


def test_a_template_of_the_openapi_form_lists_names():
    required = [step["requiredParams"] for step in template_json("all", STEPS, OPENAPI)["actions"]]
    assert required == [["buildId", "priority"], [], ["timeout"]]


def test_a_template_in_the_short_form_has_one_step():
    short = parse_template({"task": {"command": ["echo", "${x}"], "timeoutSeconds": 5}, "parameters": {"x": {}}})
    actions = [{"idx": 0, "actionType": "process", "requiredParams": {"x": ""}}]
    assert template_json("short", short, PROSE) == {
        "id": template_id("short"), "name": "short", "description": "", "actions": actions
    }  # fmt: skip
