"""`batch submit`: a task for each line of a file, against a real daemon."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import Daemon, wait_for
from terminal import TASK_RUNNER, in_terminal

from task_runner.cli import lines
from task_runner.cli.main import cli
from task_runner.errors import InvalidRequest

Cli = Callable[..., Result]
SETTINGS = {"max_running": 8, "max_body_bytes": 300_000}
UNTIL_GO = "while [ ! -e {go} ]; do sleep 0.05; done"


@pytest.fixture
def tr(shared: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a verb in this process, which saves its start."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
        return CliRunner().invoke(cli, arguments, env=shared.env, input=stdin, prog_name="task-runner")

    return run


def tasks_of(daemon: Daemon, batch_id: str) -> list[dict]:
    return daemon.http.get("/v1/tasks", params={"batch": batch_id}).json()


def batches(daemon: Daemon) -> int:
    return len(daemon.http.get("/v1/batches").json())


# -- what a file says


def test_commands_go_to_a_shell_one_a_line(shared: Daemon, tr: Cli, tmp_path: Path):
    (tmp_path / "jobs").write_text("# what there is to do\n\n  echo $((1 + 1)) | cat\r\npwd\n  # and no more\n")
    made = tr("batch", "submit", "jobs", "--name", "two", "-t", "a=b", "--timeout", "600", "--wait")
    assert (made.exit_code, made.stderr) == (0, "")
    batch_id, summary = made.stdout.splitlines()
    assert summary.startswith(f"{batch_id}: 2 tasks in ")
    assert summary.endswith(": 2 ok")
    found = tasks_of(shared, batch_id)
    assert [shared.output(task["taskId"]) for task in found] == [b"2\n", f"{tmp_path}\n".encode()]
    assert [(task["tags"], task["spec"]["timeoutSeconds"]) for task in found] == [({"a": "b"}, 600)] * 2
    assert found[0]["name"] is None
    batch = json.loads(tr("batch", "show", "--json", batch_id).stdout)
    assert (batch["name"], batch["tags"]) == ("two", {"a": "b"})


def test_commands_are_split_into_words_where_asked_for(shared: Daemon, tr: Cli):
    made = tr("batch", "submit", "--argv", "-", "--wait", stdin="printf '%s|' 'a b' $HOME \"c\"\n")
    (task,) = tasks_of(shared, made.stdout.split()[0])
    assert task["spec"]["actions"][0]["parameters"]["command"] == ["printf", "%s|", "a b", "$HOME", "c"]
    wrong = tr("batch", "submit", "--argv", "-", stdin="true\necho 'x\ntrue\necho \"\n")
    assert (wrong.exit_code, wrong.stdout) == (5, "")
    assert "lines 2, 4: No closing quotation" in wrong.stderr


def test_lines_of_json_are_tasks_and_options_hold_for_all(shared: Daemon, tr: Cli):
    given = '\n{"command": ["true"], "name": "one", "tags": {"x": "1"}}\n\n{"shell": "exit 3", "priority": 7}\n'
    made = tr("batch", "submit", "-", "--priority", "5", "-t", "a=b", "--wait", "--json", stdin=given)
    assert made.exit_code == 1
    done = json.loads(made.stdout)
    assert (done["outcomes"], done["numTasks"]) == ({"succeeded": 1, "failed": 1}, 2)
    assert [(each["line"], each["exitCode"]) for each in done["failures"]] == [(4, 3)]
    found = tasks_of(shared, done["batchId"])
    assert [(task["name"], task["priority"], task["tags"]) for task in found] == [
        ("one", 5, {"x": "1", "a": "b"}),
        (None, 5, {"a": "b"}),
    ]
    for option in (["--env", "A=b"], ["--argv"], ["--mount", "/a"]):
        done = tr("batch", "submit", "-", *option, stdin=given)
        assert (done.exit_code, done.stdout) == (2, "")
        assert f"{option[0]} is for lines that are commands" in done.stderr


@pytest.mark.parametrize(
    ("text", "kind"),
    [('{"a": 1}', "json"), ("\n  {}", "json"), ("true", "commands"), ("# {}", "commands"), ("[ -e x ] && y", "commands")],
)
def test_the_first_character_says_what_the_lines_are(text: str, kind: str):
    assert lines.kind_of(lines.read(text.encode())) == kind


@pytest.mark.parametrize("text", ['[{"command": ["rm"]}]', "[\n{}\n]", "[]"])
def test_an_array_is_not_taken_for_commands(tr: Cli, text: str):
    done = tr("batch", "submit", "-", stdin=text)
    assert (done.exit_code, done.stdout) == (5, "")
    assert "batch create" in done.stderr


@pytest.mark.parametrize("text", ['true\n\n{"command": ["rm"]}\n', '# two\ntrue\n{"shell": "x"}\n'])
def test_a_task_as_json_among_commands_is_not_run_as_a_command(tr: Cli, text: str):
    done = tr("batch", "submit", "-", stdin=text)
    assert (done.exit_code, done.stdout) == (5, "")
    assert "line 3: this looks like a task as JSON" in done.stderr
    assert lines.kind_of(lines.read(b"true\n{ true; }\n")) == "commands"


def test_the_same_key_makes_one_batch(tr: Cli):
    first = tr("batch", "submit", "-", "--key", "once more", stdin="true\n")
    assert first.exit_code == 0
    assert tr("batch", "submit", "-", "--key", "once more", stdin="true\n").stdout == first.stdout
    assert tr("batch", "submit", "-", "--key", "once more", stdin="false\n").exit_code == 4


# -- refusals


def test_every_wrong_line_is_named_and_nothing_is_handed_in(shared: Daemon, tr: Cli):
    before = batches(shared)
    done = tr("batch", "submit", "-", stdin='{"command": ["true"]}\n{"command": [}\n\n7\n{"shell": "true"}\n')
    assert (done.exit_code, done.stdout) == (5, "")
    assert "nothing was handed in" in done.stderr
    assert "  line 2: it is not JSON" in done.stderr
    assert "  line 4: a task is a JSON object" in done.stderr
    # what only the daemon knows is named by lines as well
    done = tr("batch", "submit", "-", stdin='{"command": ["true"]}\n\n{"comand": []}\n{"shell": "x", "priority": "y"}\n')
    assert (done.exit_code, done.stdout) == (5, "")
    assert "  line 3: comand: " in done.stderr
    assert "  line 4: priority: " in done.stderr
    assert "tasks." not in done.stderr
    assert batches(shared) == before


@pytest.mark.parametrize("line", ['{"shell": "\\ud800"}', '{"shell": "x", "priority": NaN}', '{"priority": 1e999}'])
def test_json_that_cannot_be_sent_is_named_by_its_line(tr: Cli, line: str):
    done = tr("batch", "submit", "-", stdin=f'{{"shell": "true"}}\n{line}\n')
    assert (done.exit_code, done.stdout) == (5, "")
    assert "line 2: it is not JSON" in done.stderr


def test_one_fault_of_many_lines_is_told_once():
    with pytest.raises(InvalidRequest) as caught:
        lines.json_tasks(lines.Line(number, "7" if number < 9 else f"{number}x") for number in range(1, 60))
    fields = [(fault.field, fault.message) for fault in caught.value.fields]
    assert fields[0] == ("lines 1, 2, 3, 4, 5 and 3 more", "a task is a JSON object")
    assert len(fields) <= lines.MOST_FAULTS + 1


@pytest.mark.parametrize("stdin", ["", "\n \n", "# nothing\n"])
def test_no_task_is_no_batch(tr: Cli, stdin: str):
    done = tr("batch", "submit", "-", stdin=stdin)
    assert (done.exit_code, done.stdout) == (5, "")
    assert "there is no task in it" in done.stderr


def test_what_is_no_text_is_refused_by_its_line(tr: Cli):
    done = tr("batch", "submit", "-", stdin=b"true\n\xff\n")
    assert done.exit_code == 5
    assert "line 2: it is not UTF-8" in done.stderr


def test_what_one_request_does_not_hold_is_not_cut_into_several(shared: Daemon, tr: Cli):
    before = batches(shared)
    done = tr("batch", "submit", "-", stdin="true\n" * 10_001)
    assert (done.exit_code, done.stdout) == (5, "")
    assert "10001 tasks, and a batch has at most 10000: nothing was handed in" in done.stderr
    done = tr("batch", "submit", "-", stdin=f"echo {'x' * 3000}\n" * 200)
    assert (done.exit_code, done.stdout) == (5, "")
    assert "max_body_bytes" in done.stderr
    assert "divide the file" in done.stderr
    assert batches(shared) == before


def test_an_alias_for_all_is_wrong_usage(tr: Cli):
    assert tr("batch", "submit", "-", "--alias", "x", stdin="true\n").exit_code == 2


# -- waiting


def test_the_end_of_each_kind_is_counted_and_the_first_that_failed_are_named(tr: Cli):
    commands = ["true", "exit 3", "kill -9 $$", "sleep 600", *["false"] * 12]
    # the time of one of them is over at once, that of the others never, however slow they are
    tasks = [{"shell": each, "timeoutSeconds": 0.2 if each.startswith("sleep") else None} for each in commands]
    done = tr("batch", "submit", "-", "--wait", stdin="".join(f"{json.dumps(each)}\n" for each in tasks))
    assert done.exit_code == 1
    assert "16 tasks in " in done.stdout
    for part in ("1 ok", "14 failed", "1 timed out"):
        assert part in done.stdout
    told = done.stderr.splitlines()
    assert len(told) == 11
    assert told[0].endswith("(line 2) failed with exit code 3")
    assert told[1].endswith("(line 3) failed by SIGKILL")
    assert "(line 4) timed out" in told[2]
    assert told[-1].startswith("  and 5 more: `task-runner batch results ")


def test_a_bar_shows_how_far_it_is(shared: Daemon, tmp_path: Path):
    go = tmp_path / "go"
    (tmp_path / "jobs").write_text(f"true\nfalse\n{UNTIL_GO.format(go=go)}\n")
    command = [*TASK_RUNNER, "batch", "submit", "jobs", "--wait"]
    with in_terminal(*command, env=shared.env, cwd=tmp_path) as child:
        child.expect("2/3")
        child.expect("1 failed")
        child.expect("1 running")
        go.touch()
        child.expect(r"3 tasks in \S+: .*2 ok")
        child.expect(r"\(line 2\) failed with exit code 1")
        child.wait()
        assert child.exitstatus == 1


def test_ctrl_c_ends_the_waiting_and_says_what_goes_on(shared: Daemon, tmp_path: Path):
    go = tmp_path / "go"
    (tmp_path / "jobs").write_text(f"{UNTIL_GO.format(go=go)}\n")
    command = [*TASK_RUNNER, "batch", "submit", "jobs", "--wait"]
    with in_terminal(*command, env=shared.env, cwd=tmp_path) as child:
        child.expect("1 running")
        child.sendintr()
        child.expect(r"batch (\S+) goes on: `task-runner batch wait \S+` waits for it, `task-runner batch stop \S+` stops")
        batch_id = child.match[1]
        child.wait()
        assert child.exitstatus == 128 + signal.SIGINT
    assert [task["state"] for task in tasks_of(shared, batch_id)] == ["running"]
    go.touch()
    wait_for(lambda: tasks_of(shared, batch_id)[0]["outcome"] == "succeeded")


def test_the_help_is_in_its_group(tr: Cli):
    text = tr("batch", "--help").stdout
    assert "submit " in text
    assert "create " in text
