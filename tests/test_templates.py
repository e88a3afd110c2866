"""Templates: declared, checked, filled, and never spliced into a shell line unquoted."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from conftest import PATIENCE, Daemon, verb
from hypothesis import given, settings
from hypothesis import strategies as st

from task_runner.errors import Conflict, InvalidRequest
from task_runner.model import shellline
from task_runner.service.templateform import MOST_ADDED, fill, parse_template
from task_runner.service.templates import MOST_TEMPLATES, Templates

GREETING = {
    "description": "greets",
    "parameters": {
        "who": {"description": "whom to greet", "maxLength": 40},
        "times": {"type": "integer", "default": 1, "minimum": 1, "maximum": 9},
        "loud": {"type": "boolean", "default": False},
    },
    "task": {
        "actions": [{"machine": "process", "parameters": {"shell": "for i in $(seq ${times}); do echo ${who}; done"}}],
        "name": "greet ${who}",
        "tags": {"kind": "greeting", "times": "${times}"},
        "graceSeconds": "${times}",
        "outputTimestamps": "${loud}",
    },
}
#: what must come through as it is
NASTY = ["it's", '"', "$(echo pwned)", "`echo pwned`", "a b", "", "-n", "A=1", "*", "\\", "\n# x", "';echo pwned;'", "é"]


def made(task: dict[str, Any], values: dict[str, Any] | None = None, **parameters: Any) -> dict[str, Any]:
    return fill(parse_template({"task": task, "parameters": parameters}), values or {})


def refused(task: Any, values: dict[str, Any] | None = None, **parameters: Any) -> list[tuple[str, str]]:
    """Fields and messages, of the template or of what is put into it."""
    with pytest.raises(InvalidRequest) as caught:
        made(task, values, **parameters)
    return [(each.field, each.message) for each in caught.value.fields]


# -- values in their places


def test_a_string_that_is_one_placeholder_takes_the_typed_value():
    task = made(
        {"command": ["true"], "timeoutSeconds": "${n}", "progress": "${b}", "metadata": {"x": ["${n}"], "y": "n=${n}"}},
        {"n": 2.5, "b": True},
        n={"type": "number"},
        b={"type": "boolean"},
    )
    assert task["timeoutSeconds"] == 2.5
    assert task["progress"] is True
    assert task["metadata"] == {"x": [2.5], "y": "n=2.5"}


def test_where_only_text_makes_sense_a_number_becomes_text():
    task = made(
        {"command": ["sleep", "${n}"], "env": {"N": "${n}", "B": "${b}"}, "tags": {"n": "${n}"}, "name": "${n}"},
        {"n": 3, "b": False},
        n={"type": "integer"},
        b={"type": "boolean"},
    )
    assert (task["command"], task["env"]) == (["sleep", "3"], {"N": "3", "B": "false"})
    assert (task["tags"], task["name"]) == ({"n": "3"}, "3")


def test_a_doubled_dollar_is_text_and_values_are_not_looked_into():
    task = made({"command": ["echo", "$${x} $x $$ ${x}", "$$${x}"]}, {"x": "${y} $${z}"}, x={})
    assert task["command"] == ["echo", "${x} $x $$ ${y} $${z}", "$${x}"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${y}", "${y} names no parameter (there are: x)"),
        ("${x-1}", "names no parameter"),
        ("a ${x", "does not end"),
        ("${}", "names no parameter"),
    ],
)
def test_a_placeholder_that_means_nothing_is_refused(text: str, message: str):
    [(field, told)] = refused({"command": ["echo", text]}, x={})
    assert field == "task.command.1"
    assert message in told


def test_a_placeholder_in_the_name_of_a_field_is_refused():
    assert refused({"command": ["true"], "env": {"${x}": "1"}}, x={})[0][0] == "task.env.${x}"


# -- lines for a shell


@pytest.mark.parametrize("shell", ["sh", "dash", "bash"])
def test_every_value_is_one_word_for_the_shell(shell: str, tmp_path: Path):
    for value in NASTY:
        line = made({"shell": 'printf "%s|" ${x} a${x}b; X=${x}; printf "%s" "$X"'}, {"x": value}, x={})["shell"]
        done = subprocess.run([shell, "-c", line], capture_output=True, text=True, timeout=PATIENCE, cwd=tmp_path)
        assert done.stdout == f"{value}|a{value}b|{value}", (value, line, done.stderr)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("echo '${x}'", "in quotes"),
        ('echo "a ${x}"', "in quotes"),
        ('echo "a\\" ${x}"', "in quotes"),
        ("echo \"$(echo ${x})\"", "in quotes"),
        ('echo "$(echo " ${x} ")"', "behind `$(` in double quotes"),
        ("echo `echo ${x}`", "behind ```"),
        ("echo a # ${x}", "in a comment"),
        ("# don't\necho 'a ${x}'", "in quotes"),
        ("cat <<EOF\n${x}\nEOF", "behind `<<`"),
        ("echo $((1 + ${x}))", "behind `((`"),
        ("echo \\${x}", "behind a backslash"),
        ("echo $'a' ${x}", "behind `$'`"),
        ("echo $\\\n${x}", "behind"),
        ("echo $${y:-'}'} ${x}", "behind `${`"),
        ("echo '${x}", "in quotes"),
    ],
)
def test_a_placeholder_where_quotes_would_not_hold_is_refused(line: str, reason: str):
    [(field, message)] = refused({"shell": line}, x={})
    assert field == "task.shell"
    assert reason in message


@pytest.mark.parametrize(
    "line",
    [
        "echo 'it' ${x} \"$HOME\" $${HOME} $(ls ${x}) | grep -c ${x} > ${x}",
        "# it's a comment\necho ${x} # 'another",
        'echo "a # b" ${x} c#d ${x}\\# $#',
        "make \\\n  ${x} \\\n  ${x}",
        "case ${x} in ${x}) echo ${x};; esac",
        "echo 'a''b'${x}\"c\" \\' ${x}",
    ],
)
def test_other_places_are_taken(line: str):
    assert made({"shell": line}, {"x": "v"}, x={})["shell"].count("'v'") == line.count("${x}") - line.count("$${x}")


#: pieces that a shell reads in a special way, and nothing that does harm
PIECES = ["'", '"', "\\", "`", "$(", ")", "((", "))", "$${y:-", "}", "#", " ", "\n", "<<E\n", "E\n", ";", "$", "a", "echo "]


@given(st.lists(st.sampled_from([*PIECES, "${x}"]), max_size=12), st.sampled_from(["dash", "bash"]))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_no_line_that_is_taken_lets_a_value_run(pieces: list[str], shell: str):
    text = "".join(["echo ${x}", *pieces, "${x}"])
    value = "';touch pwned;$(touch pwned)`touch pwned`\n touch pwned\n'\"; touch pwned; \"\\"
    try:
        line = made({"shell": text}, {"x": value}, x={})["shell"]
    except InvalidRequest:
        return
    # a command of the shell's own that tells, wherever its output goes
    told = f"touch() {{ echo PWNED >&2; }}\n{line}"
    done = subprocess.run(
        [shell, "-c", told], stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, check=False
    )
    assert b"PWNED" not in done.stderr, line


@pytest.mark.parametrize(
    "command",
    [
        ["sh", "-c", "echo ${x}"],
        ["/bin/bash", "-euo", "pipefail", "-c", "echo ${x}", "name"],
        ["env", "A=1", "dash", "-ec", "${x}"],
        ["zsh", "--", "-c", "x"],
        ["ksh", "-c", "--", "${x}"],
        ["su", "nobody", "-c", "ls ${x}"],
        ["timeout", "5", "sh", "-x", "-c", "${x}"],
    ],
)
def test_a_shell_that_is_started_as_a_program_gets_no_value_in_its_line(command: list[str]):
    if not any("${x}" in word for word in command):
        assert made({"command": command}, {"x": "v"}, x={})["command"] == command
        return
    [(field, message)] = refused({"command": command}, x={})
    assert field.startswith("task.command.")
    assert 'use "shell", or write "$1"' in message


def test_values_may_be_arguments_of_such_a_shell():
    command = ["sh", "-c", 'echo "$1"', "sh", "${x}"]
    assert made({"command": command}, {"x": "a b"}, x={})["command"][4] == "a b"
    assert made({"command": ["bash", "-o", "pipefail", "run.sh", "${x}"]}, {"x": "a"}, x={})


def test_a_value_that_makes_a_program_a_shell_is_refused():
    [(field, message)] = refused({"command": ["${p}", "-c", "${x}"]}, {"p": "/bin/sh", "x": "id"}, p={}, x={})
    assert field == "parameters.x"
    assert "command.2" in message


def test_a_script_on_standard_input_takes_no_values():
    assert refused({"command": ["sh"], "stdin": "echo ${x}"}, x={})[0][0] == "task.stdin"
    assert refused({"command": ["bash", "-s", "--", "a"], "stdin": "echo ${x}"}, x={})[0][0] == "task.stdin"
    assert made({"command": ["cat"], "stdin": "echo ${x}"}, {"x": "1"}, x={})["stdin"] == "echo 1"


def test_cleanup_is_checked_like_actions():
    action = {"machine": "process", "parameters": {"shell": "rm '${x}'"}}
    task = {"actions": [{"machine": "process", "parameters": {"command": ["true"]}}], "cleanup": [action]}
    assert refused(task, x={})[0][0] == "task.cleanup.0.parameters.shell"
    action["parameters"] = {"command": ["sh", "-c", "rm ${x}"]}
    assert refused(task, x={})[0][0] == "task.cleanup.0.parameters.command.2"


def test_options_of_shells_are_read_as_shells_do():
    assert list(shellline.scripts(["bash", "-ceo", "pipefail", "line", "arg"])) == [3]
    assert list(shellline.scripts(["bash", "--rcfile", "x", "-c", "line"])) == [4]
    assert list(shellline.scripts(["sh", "+e", "-c", "-", "line"])) == [4]
    assert list(shellline.scripts(["sh", "run.sh", "-c", "x"])) == []
    assert list(shellline.scripts(["runuser", "-u", "x", "--command=id"])) == [3]
    assert shellline.reads_script(["sh", "-e"])
    assert not shellline.reads_script(["sh", "run.sh"])


# -- declarations


@pytest.mark.parametrize(
    ("declared", "field", "message"),
    [
        ({"type": "float"}, "type", "Input should be"),
        ({"typ": "string"}, "typ", "did you mean 'type'?"),
        ({"pattern": "("}, "pattern", "unclosed group"),
        ({"pattern": "a)|(b"}, "pattern", "regular expression"),
        ({"pattern": "a(?=b)"}, "pattern", "look-around"),
        ({"type": "integer", "pattern": "1"}, "pattern", "of type string"),
        ({"type": "boolean", "minimum": 1}, "minimum", "of type integer or number"),
        ({"minLength": 5, "maxLength": 4}, "maxLength", "less than the least, 5"),
        ({"type": "number", "minimum": 5, "maximum": 4}, "maximum", "less than the least, 5"),
        ({"type": "integer", "default": 1.5}, "default", "a whole number"),
        ({"type": "integer", "default": True}, "default", "expected a number"),
        ({"type": "boolean", "default": 1}, "default", "true or false"),
        ({"default": 1}, "default", "expected a string"),
        ({"default": "ab", "maxLength": 1}, "default", "1 characters or less"),
        ({"choices": ["a", 1]}, "choices.1", "expected a string"),
        ({"choices": []}, "choices", "at least 1"),
        ({"choices": ["a"], "default": "b"}, "default", "is not one of a"),
    ],
)
def test_a_declaration_that_makes_no_sense_is_refused(declared: dict[str, Any], field: str, message: str):
    faults = refused({"command": ["true"]}, x=declared)
    assert [each for each, told in faults if message in told] == [f"parameters.x.{field}"], faults


@pytest.mark.parametrize(
    ("declared", "value", "message"),
    [
        ({}, 1, "expected a string"),
        ({}, "a\0b", "NUL"),
        ({"minLength": 2}, "a", "2 characters or more"),
        ({"maxLength": 2}, "abc", "2 characters or less"),
        ({"pattern": "[a-z]+"}, "ab1", "does not match"),
        ({"pattern": "a|b"}, "ab", "does not match"),
        ({"pattern": "[a-z]+"}, "ab\n", "does not match"),
        ({"choices": ["a", "b"]}, "c", "is not one of a, b"),
        ({"type": "integer"}, "1", "expected a number"),
        ({"type": "integer"}, 1.0, "a whole number"),
        ({"type": "integer"}, 10**19, "too large"),
        ({"type": "number", "minimum": 1.5}, 1, "1.5 or more"),
        ({"type": "number", "maximum": 1.5}, 2, "1.5 or less"),
        ({"type": "number"}, True, "expected a number"),
        ({"type": "boolean"}, "true", "true or false"),
    ],
)
def test_a_value_is_checked_against_its_declaration(declared: dict[str, Any], value: Any, message: str):
    [(field, told)] = refused({"command": ["echo", "${x}"]}, {"x": value}, x=declared)
    assert field == "parameters.x"
    assert message in told


def test_unknown_and_missing_values_are_refused_each_by_name():
    faults = refused({"command": ["echo", "${one}${two}"]}, {"tow": "1"}, one={"description": "the first"}, two={})
    assert [field for field, _ in faults] == ["parameters.tow", "parameters.one", "parameters.two"]
    assert "did you mean 'two'?" in faults[0][1]
    assert "required: the first" in faults[1][1]


def test_what_cannot_be_a_task_is_refused_when_the_template_is_kept():
    assert refused({"comand": ["${x}"]}, x={})[0][0] == "task"
    assert refused({"command": ["true"], "timeoutSecond": 1})[0] == (
        "task.timeoutSecond",
        "no such field; did you mean 'timeoutSeconds'?",
    )
    assert refused({"command": ["true"], "timeoutSeconds": "${n}"}, n={"type": "number", "default": 0})[0][0] == (
        "task.timeoutSeconds"
    )
    assert refused({"template": "other"})[0][0] == "task"
    # but not for a value that is only an example
    assert parse_template({"task": {"command": ["true"], "timeoutSeconds": "${n}"}, "parameters": {"n": {}}})
    assert parse_template({"task": {"machine": "echo", "parameters": ["${x}"]}, "parameters": {"x": {}}})


def test_a_value_that_makes_no_valid_task_is_blamed():
    [(field, message)] = refused({"command": ["true"], "timeoutSeconds": "${n}"}, {"n": -1}, n={"type": "number"})
    assert field == "parameters.n"
    assert "at timeoutSeconds of the template's task" in message
    [(field, message)] = refused({"machine": "echo", "parameters": ["echo a", "${x}"]}, {"x": "slep 1"}, x={})
    assert field == "parameters.x"
    assert "line 2" in message


def test_a_task_cannot_grow_without_bound():
    [(field, message)] = refused({"command": ["${x}"] * 20}, {"x": "a" * (MOST_ADDED // 19)}, x={})
    assert field == "parameters"
    assert str(MOST_ADDED) in message


# -- over HTTP


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("templates")
    (folder / "conf").mkdir()
    daemon = Daemon(folder / "state", templates_dir=folder / "conf")
    try:
        yield daemon.start()
    finally:
        daemon.close()


@pytest.fixture
def conf(shared: Daemon) -> Path:
    return Path(shared.settings["templates_dir"])


def put(daemon: Daemon, name: str, body: Any = GREETING, status: int | None = None) -> dict[str, Any]:
    response = daemon.http.put(f"/v1/templates/{name}", json=body)
    assert response.status_code in ((200, 201) if status is None else (status,)), response.text
    return dict(response.json())


def errors(response: Any, status: int = 400) -> dict[str, str]:
    assert response.status_code == status, response.text
    return {each["field"]: each["message"] for each in response.json()["errors"]}


def test_a_task_is_made_of_a_template(shared: Daemon):
    put(shared, "greet")
    response = shared.post("/v1/tasks", {"template": "greet", "parameters": {"who": "it's me", "times": 2}})
    assert response.status_code == 201
    task = shared.wait(response.json()["taskId"])
    assert shared.output(task["taskId"]) == b"it's me\n" * 2
    assert (task["template"], task["name"], task["outcome"]) == ("greet", "greet it's me", "succeeded")
    assert task["tags"] == {"kind": "greeting", "times": "2"}
    assert task["spec"]["graceSeconds"] == 2


def test_fields_beside_a_template_override_and_tags_are_merged(shared: Daemon):
    put(shared, "greet")
    beside = {"name": "mine", "tags": {"times": "x", "more": "y"}, "metadata": {"a": 1}, "entity": "e", "priority": 3}
    response = shared.post("/v1/tasks", {"template": "greet", "parameters": {"who": "x"}, **beside})
    task = response.json()
    assert task["tags"] == {"kind": "greeting", "times": "x", "more": "y"}
    assert (task["name"], task["metadata"], task["entity"], task["priority"]) == ("mine", {"a": 1}, "e", 3)


def test_a_request_that_names_a_template_is_checked(shared: Daemon):
    put(shared, "greet")
    submit = lambda **body: errors(shared.post("/v1/tasks", body))  # noqa: E731
    assert submit(template="greet", parameters={"who": "x" * 41}).keys() == {"parameters.who"}
    assert submit(template="greet", parameters={"who": "x"}, command=["true"], files=[]).keys() == {"command", "files"}
    assert "name, alias, tags" in submit(template="greet", parameters={"who": "x"}, actions=[])["actions"]
    assert "did you mean 'greet'?" in submit(template="gret")["template"]
    assert submit(template=7).keys() == {"template"}
    assert submit(template="greet", parameters=[]).keys() == {"parameters"}
    assert submit(template="greet", parameters={"who": "x"}, priority=5000).keys() == {"priority"}
    assert submit(template="greet", parameters={"who": "x"}, tags=[]).keys() == {"tags"}


def test_the_idempotency_key_compares_what_is_run(shared: Daemon):
    put(shared, "keyed")
    body = {"template": "keyed", "parameters": {"who": "x"}}
    header = {"Idempotency-Key": "template-key"}
    first = shared.post("/v1/tasks", body, headers=header)
    assert shared.post("/v1/tasks", body, headers=header).json()["taskId"] == first.json()["taskId"]
    other = {"template": "keyed", "parameters": {"who": "y"}}
    assert shared.post("/v1/tasks", other, headers=header).status_code == 409


def test_a_batch_is_made_of_a_template(shared: Daemon):
    put(shared, "greet")
    task = {"template": "greet", "parameters": {"who": "all"}}
    made = shared.post("/v1/batches", {"task": task, "entities": ["a", "b"]})
    assert made.status_code == 201, made.text
    for task_id in made.json()["tasks"]:
        assert shared.wait(task_id)["template"] == "greet"
        assert shared.output(task_id) == b"all\n"
    bad = shared.post("/v1/batches", {"tasks": [task, {"template": "greet"}]})
    assert errors(bad).keys() == {"tasks.1.parameters.who"}


def test_templates_are_listed_shown_replaced_and_deleted(shared: Daemon):
    assert shared.http.put("/v1/templates/one", json=GREETING).status_code == 201
    assert shared.http.put("/v1/templates/one", json={**GREETING, "description": "new"}).status_code == 200
    shown = shared.http.get("/v1/templates/one").json()
    assert (shown["description"], shown["origin"], shown["error"]) == ("new", "store", None)
    assert shown["task"] == GREETING["task"]
    assert shown["parameters"]["who"] == {
        "type": "string", "description": "whom to greet", "maxLength": 40, "required": True
    }  # fmt: skip
    assert shown["parameters"]["times"]["required"] is False
    listed = shared.http.get("/v1/templates").json()
    assert [each["name"] for each in listed] == sorted(each["name"] for each in listed)
    assert "task" not in next(each for each in listed if each["name"] == "one")
    assert shared.http.delete("/v1/templates/one").json() == {"success": True}
    assert shared.http.get("/v1/templates/one").status_code == 404
    assert shared.http.delete("/v1/templates/one").status_code == 404


def test_a_template_that_is_refused_changes_nothing(shared: Daemon):
    put(shared, "kept")
    refused = shared.http.put("/v1/templates/kept", json={"task": {"shell": "echo '${x}'"}, "parameters": {"x": {}}})
    assert errors(refused).keys() == {"task.shell"}
    assert shared.http.get("/v1/templates/kept").json()["task"] == GREETING["task"]
    assert errors(shared.http.put("/v1/templates/a%20b", json=GREETING)).keys() == {"name"}
    assert errors(shared.http.put("/v1/templates/x", json=[])).keys() == {""}
    assert "parameters.a b" in " ".join(
        errors(shared.http.put("/v1/templates/x", json={"task": {"command": ["a"]}, "parameters": {"a b": {}}}))
    )
    large = {"task": {"command": ["true", "x" * 130_000, "x" * 130_000, "x" * 10_000]}}
    assert "262144" in errors(shared.http.put("/v1/templates/x", json=large))[""]


def test_stored_templates_outlive_the_daemon(make_daemon: Callable[..., Daemon]):
    daemon = make_daemon().start()
    put(daemon, "greet")
    task_id = daemon.post("/v1/tasks", {"template": "greet", "parameters": {"who": "x"}}).json()["taskId"]
    daemon.restart()
    assert daemon.http.get("/v1/templates/greet").json()["task"] == GREETING["task"]
    assert daemon.wait(task_id)["template"] == "greet"
    assert daemon.post("/v1/tasks", {"template": "greet", "parameters": {"who": "y"}}).status_code == 201


def test_the_schema_of_a_template_is_published(shared: Daemon):
    schema = shared.http.get("/v1/schema").json()
    template = schema["x-template"]
    assert template["required"] == ["task"]
    [reference] = [each["$ref"] for each in template["properties"]["parameters"]["patternProperties"].values()]
    found = schema
    for part in reference.removeprefix("#/").split("/"):
        found = found[part]
    assert set(found["properties"]) >= {"type", "default", "choices", "pattern", "minimum"}


# -- in files


def replace(path: Path, text: str) -> None:
    fresh = path.parent / f".{path.name}"
    fresh.write_text(text)
    fresh.rename(path)


def test_a_file_is_a_template_and_is_read_again_when_it_changes(shared: Daemon, conf: Path):
    replace(conf / "filed.json", json.dumps({"task": {"command": ["echo", "one"]}}))
    response = shared.post("/v1/tasks", {"template": "filed"})
    shared.wait(response.json()["taskId"])
    assert shared.output(response.json()["taskId"]) == b"one\n"
    replace(conf / "filed.json", json.dumps({"task": {"command": ["echo", "two"]}}))
    assert shared.post("/v1/tasks", {"template": "filed"}).json()["spec"]["actions"][0]["parameters"]["command"][1] == "two"
    (conf / "filed.json").unlink()
    assert shared.http.get("/v1/templates/filed").status_code == 404


def test_a_file_may_be_toml(shared: Daemon, conf: Path):
    text = """
    description = "in TOML"
    [parameters.n]
    type = "integer"
    default = 4
    [task]
    command = ["echo", "${n}"]
    executeAt = 2020-01-01T00:00:00Z
    """
    replace(conf / "toml.toml", text)
    shown = shared.http.get("/v1/templates/toml").json()
    assert (shown["origin"], shown["error"], shown["task"]["executeAt"]) == ("directory", None, "2020-01-01T00:00:00Z")
    task = shared.wait(shared.post("/v1/tasks", {"template": "toml", "parameters": {"n": 5}}).json()["taskId"])
    assert shared.output(task["taskId"]) == b"5\n"


def test_a_template_in_a_file_is_read_only(shared: Daemon, conf: Path):
    put(shared, "both")
    replace(conf / "both.json", json.dumps({"task": {"command": ["true"]}}))
    assert shared.http.get("/v1/templates/both").json()["origin"] == "directory"
    for response in (shared.http.put("/v1/templates/both", json=GREETING), shared.http.delete("/v1/templates/both")):
        assert response.status_code == 409
        assert "templates_dir" in response.json()["detail"]
    (conf / "both.json").unlink()
    assert shared.http.get("/v1/templates/both").json()["origin"] == "store"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("bad1.json", "{", "not JSON"),
        ("bad2.toml", "a = ", "not TOML"),
        ("bad3.json", '{"task": {"shell": "echo \'${x}\'"}, "parameters": {"x": {}}}', "in quotes"),
        ("bad 4.json", "{}", "not one for a template"),
        ("bad5.toml", "x = nan\n[task]\ncommand = ['true']", "not TOML"),
        ("bad6.json", '{"task": {}, "description": "' + "x" * 300_000 + '"}', "more than 262144 bytes"),
    ],
)
def test_a_broken_file_is_told_and_nothing_else_suffers(
    shared: Daemon, conf: Path, name: str, text: str, message: str
):
    replace(conf / name, text)
    stem = name.rpartition(".")[0]
    shown = shared.http.get(f"/v1/templates/{stem}").json()
    assert message in shown["error"]
    assert shown["task"] is None
    assert stem in [each["name"] for each in shared.http.get("/v1/templates").json() if each["error"]]
    assert message in errors(shared.post("/v1/tasks", {"template": stem}))["template"]
    assert f"template {stem} in" in shared.log.read_text()
    put(shared, "greet")
    (conf / name).unlink()


def test_two_files_of_one_name_and_what_is_no_file_cannot_be_used(shared: Daemon, conf: Path):
    replace(conf / "twin.json", json.dumps({"task": {"command": ["true"]}}))
    replace(conf / "twin.toml", "task.command = ['true']")
    assert "which of them" in shared.http.get("/v1/templates/twin").json()["error"]
    (conf / "twin.toml").unlink()
    assert shared.http.get("/v1/templates/twin").json()["error"] is None
    os.mkfifo(conf / "pipe.json")
    assert "not a regular file" in shared.http.get("/v1/templates/pipe").json()["error"]
    (conf / "pipe.json").unlink()
    assert shared.http.get("/v1/templates/..%2Fconf%2Ftwin").status_code == 404


def test_the_doctor_names_a_template_that_cannot_be_used(shared: Daemon, conf: Path):
    replace(conf / "sick.json", "{")
    done = verb(shared, "doctor")
    (conf / "sick.json").unlink()
    assert "template sick" in done.stdout
    assert "not JSON" in done.stdout


def test_a_daemon_starts_with_a_directory_that_is_missing_or_full_of_trouble(
    make_daemon: Callable[..., Daemon], tmp_path: Path
):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/broken.json").write_text("{")
    daemon = make_daemon(templates_dir=tmp_path / "conf").start()
    assert "template broken in" in daemon.log.read_text()
    other = make_daemon(templates_dir=tmp_path / "missing").start()
    assert other.http.get("/v1/templates").json() == []


def test_so_many_templates_are_kept_and_no_more():
    templates = Templates(cast("Any", None), None)
    templates._stored = dict.fromkeys(map(str, range(MOST_TEMPLATES)), cast("Any", None))
    with pytest.raises(Conflict, match="no more are kept"):
        asyncio.run(templates.put("another", {"task": {"command": ["true"]}}))


# -- on the command line


def test_templates_on_the_command_line(shared: Daemon, tmp_path: Path):
    (tmp_path / "greet.json").write_text(json.dumps(GREETING))
    assert verb(shared, "template", "put", "cli", str(tmp_path / "greet.json")).returncode == 0
    listed = verb(shared, "template", "list").stdout
    assert [line for line in listed.splitlines() if line.startswith("cli ")][0].split() == (
        ["cli", "store", "who,", "times?,", "loud?", "greets"]
    )
    shown = verb(shared, "template", "show", "cli").stdout
    assert "times (integer, default 1, from 1.0, to 9.0)" in shown
    assert "who (string, required, characters to 40): whom to greet" in shown
    done = verb(shared, "run", "--template", "cli", "-p", "who=a b", "-p", "times=2", "-p", "loud=false")
    assert (done.stdout, done.returncode) == ("a b\na b\n", 0)
    refused = verb(shared, "run", "--template", "cli", "-p", "times=x", "-p", "who=1")
    assert "expected a number" in refused.stderr
    assert verb(shared, "run", "--template", "cli", "true").returncode == 2
    assert verb(shared, "run", "--template", "cli", "--shell").returncode == 2
    assert verb(shared, "run", "-p", "a=b", "true").returncode == 2
    assert verb(shared, "template", "delete", "cli").returncode == 0
    assert verb(shared, "template", "show", "cli").returncode == 3


def test_a_template_in_toml_on_the_command_line(shared: Daemon, tmp_path: Path):
    (tmp_path / "t.toml").write_text('[task]\ncommand = ["echo", "toml"]\n')
    assert verb(shared, "template", "put", "toml2", str(tmp_path / "t.toml")).returncode == 0
    assert verb(shared, "run", "--template", "toml2").stdout == "toml\n"
    (tmp_path / "t.toml").write_text("[task]\nexecuteAt = 2020-01-01T00:00:00Z\n")
    refused = verb(shared, "template", "put", "toml2", str(tmp_path / "t.toml"))
    assert "is not TOML that can be sent" in refused.stderr


