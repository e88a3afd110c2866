"""What people write after options, and what becomes of it in the spec."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from task_runner.cli import values
from task_runner.cli.main import COMMANDS, cli
from task_runner.cli.terms import merged, term_options, terms
from task_runner.service.validate import parse_spec

NOWHERE = {"TASK_RUNNER_URL": "http://127.0.0.1:1"}


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90", 90), ("1.5", 1.5), ("0", 0), ("10m", 600), ("1h30m", 5400), ("2d", 172_800), ("1m5s", 65)],
)
def test_durations(text: str, seconds: float):
    assert values.duration(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "1x", "-1", "1h30", "10 m", "1e3", "inf", "nan"])
def test_what_is_no_duration(text: str):
    with pytest.raises(ValueError, match="duration"):
        values.duration(text)


@pytest.mark.parametrize(
    ("text", "count"), [("65536", 65536), ("64K", 65536), ("1.5M", 1_572_864), ("2GiB", 2**31), ("7b", 7), ("1tb", 2**40)]
)
def test_sizes(text: str, count: int):
    assert values.size(text) == count


@pytest.mark.parametrize(("text", "count"), [("512", 512), ("4G", 4096), ("1K", 1), ("3000000B", 3)])
def test_memory_is_in_mebibytes(text: str, count: int):
    assert values.mebibytes(text) == count


@pytest.mark.parametrize("text", ["", "K", "-1", "1P", "1 2", "0x10"])
def test_what_is_no_size(text: str):
    with pytest.raises(ValueError, match="size"):
        values.size(text)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("now", None),
        ("0", None),
        ("+10m", "2026-01-02T02:14:05Z"),
        ("1767322800", "2026-01-02T03:00:00Z"),
        ("2026-01-02T03:00:00Z", "2026-01-02T03:00:00Z"),
        ("2026-01-02T03:00:00.250+01:00", "2026-01-02T02:00:00.250000Z"),
        ("2026-01-02T03:00", "2026-01-02T02:00:00Z"),
        ("2026-01-02 03:00", "2026-01-02T02:00:00Z"),
        ("2026-07-02T03:00", "2026-07-02T01:00:00Z"),
        ("03:05", "2026-01-02T02:05:00Z"),
        ("03:04:05", "2026-01-03T02:04:05Z"),
        ("3:00", "2026-01-03T02:00:00Z"),
    ],
)
def test_times(monkeypatch: pytest.MonkeyPatch, text: str, moment: str | None):
    import time

    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        assert values.moment(text, datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)) == moment
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_clock_time_is_by_the_wall_clock_when_that_is_changed(monkeypatch: pytest.MonkeyPatch):
    import time

    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:  # the night of 29 March 2026 has 23 hours
        assert values.moment("12:00", datetime(2026, 3, 28, 12, 0, tzinfo=UTC)) == "2026-03-29T10:00:00Z"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["", "soon", "25:00", "03:60", "+", "+x", "2026-13-01T00:00", "1" * 30, "+99999999999d"])
def test_what_is_no_time(text: str):
    with pytest.raises(ValueError, match="time"):
        values.moment(text, datetime(2026, 1, 2, tzinfo=UTC))


def test_a_file_goes_as_text_if_it_is_text(tmp_path: Path):
    script, data = tmp_path / "a:script", tmp_path / "data"
    script.write_text("#!/bin/sh\r\necho ä\n", newline="")
    script.chmod(0o750)
    data.write_bytes(b"\xff\x00")
    data.chmod(0o600)
    assert values.local_file(f"{script}:bin/run") == {"path": "bin/run", "text": "#!/bin/sh\r\necho ä\n", "mode": "0750"}
    encoded = {"path": "data", "base64": base64.b64encode(b"\xff\x00").decode(), "mode": "0600"}
    assert values.local_file(str(data)) == encoded
    data.write_bytes(b"x" * (values.MAX_TEXT + 1))
    assert "base64" in values.local_file(str(data))
    data.write_bytes(b"x" * (values.MAX_FILE + 1))
    with pytest.raises(ValueError, match="hostPath"):
        values.local_file(str(data))
    with pytest.raises(ValueError, match="No such file"):
        values.local_file(str(tmp_path / "none"))


def _terms(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = {}

    @click.command()
    @term_options
    def command(**given: Any) -> None:
        found.update(terms(given))

    command(arguments, standalone_mode=False)
    return found


def test_every_option_says_a_field(tmp_path: Path):
    (tmp_path / "in").write_text("x")
    (tmp_path / "in").chmod(0o644)
    said = _terms(
        *("--name", "n", "-t", "a=b=c", "-t", "d=", "--at", "2030-01-31T03:00:00Z", "--entity", "gs-1"),
        *("--priority", "-5", "--pool", "p", "--pool", "q", "--after", "ab", "--after", "cd:end"),
        *("--cpus", "1.5", "--memory", "2G", "--gpus", "1", "--timeout", "10m", "--grace", "0"),
        *("--stop-signal", "int", "--stall", "5m:stop", "--retry", "2", "--retry-delay", "3s"),
        *("--retry-on", "lost", "--secret", "db=PGPASSWORD", "--secret-file", "tls=KEY", "--mask-secrets"),
        *("--file", f"{tmp_path}/in:in.txt", "--separate-output", "--timestamps", "--max-output", "1M"),
        *("--progress", "--notify", "http://a/b", "--keep", "30d"),
    )
    assert said == {
        "name": "n",
        "tags": {"a": "b=c", "d": ""},
        "executeAt": "2030-01-31T03:00:00Z",
        "entity": "gs-1",
        "priority": -5,
        "pools": ["p", "q"],
        "after": [{"task": "ab"}, {"task": "cd", "on": "end"}],
        "resources": {"cpus": 1.5, "memoryMb": 2048, "gpus": 1},
        "timeoutSeconds": 600,
        "graceSeconds": 0,
        "stopSignal": "SIGINT",
        "stall": {"afterSeconds": 300, "then": "stop"},
        "retry": {"count": 2, "delaySeconds": 3, "on": ["lost"]},
        "secrets": [{"name": "db", "env": "PGPASSWORD"}, {"name": "tls", "fileEnv": "KEY"}],
        "maskSecrets": True,
        "files": [{"path": "in.txt", "text": "x", "mode": "0644"}],
        "outputMode": "separate",
        "outputTimestamps": True,
        "maxOutputBytes": 1_048_576,
        "progress": True,
        "notify": [{"url": "http://a/b"}],
        "keepSeconds": 2_592_000,
    }
    assert parse_spec({"command": ["true"], **said}).priority == -5


def test_no_option_says_nothing():
    assert _terms() == {}


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["--at", "soon"], "'--at'"),
        (["--after", "x:never"], "'--after'"),
        (["--memory", "lots"], "'--memory'"),
        (["--timeout", "0"], "'--timeout'"),
        (["--grace", "x"], "'--grace'"),
        (["--stop-signal", "SIGNONE"], "'--stop-signal'"),
        (["--stall", "5:explode"], "'--stall'"),
        (["--stall", "0"], "'--stall'"),
        (["--retry", "1001"], "'--retry'"),
        (["--retry-delay", "1"], "--retry-delay"),
        (["--retry-on", "succeeded", "--retry", "1"], "'--retry-on'"),
        (["--secret", "db"], "'--secret'"),
        (["--secret-file", "=KEY"], "'--secret-file'"),
        (["--file", "/no/such/file"], "'--file'"),
        (["--max-output", "x"], "'--max-output'"),
        (["--keep", "ever"], "'--keep'"),
        (["--priority", "1001"], "'--priority'"),
        (["--tag", "x"], "'--tag'"),
    ],
)
@pytest.mark.parametrize("verb", [["run", "true"], ["batch", "run", "-f", "a", "true"]])
def test_an_error_names_the_option(verb: list[str], arguments: list[str], option: str):
    at = verb.index("run") + 1
    result = CliRunner().invoke(cli, [*verb[:at], *arguments, *verb[at:]], env=NOWHERE)
    assert result.exit_code == 2
    assert option in result.stderr


def test_options_add_to_a_spec():
    body = {"command": ["true"], "tags": {"a": "1", "b": "1"}, "pools": ["x"], "name": "old", "resources": {"cpus": 1}}
    said = {"tags": {"b": "2"}, "pools": ["y"], "name": "new", "resources": {"gpus": 1}, "after": [{"task": "t"}]}
    assert merged(body, said) == {
        "command": ["true"],
        "tags": {"a": "1", "b": "2"},
        "pools": ["x", "y"],
        "name": "new",
        "resources": {"cpus": 1, "gpus": 1},
        "after": [{"task": "t"}],
    }
    assert body["pools"] == ["x"]


@pytest.mark.parametrize("arguments", [["input", "abcd"], ["reschedule", "abcd", "soon"], ["attempt", "abcd", "0"]])
def test_wrong_usage_of_a_verb(arguments: list[str]):
    assert CliRunner().invoke(cli, arguments, env=NOWHERE).exit_code == 2


@pytest.mark.parametrize(
    ("words", "offered"), [("task-runner ", COMMANDS), ("task-runner batch ", ["create", "run", "results"])]
)
def test_the_shell_completes_verbs(words: str, offered: Any):
    env = {"_TASK_RUNNER_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()))}
    result = CliRunner().invoke(cli, [], env=env, prog_name="task-runner", complete_var="_TASK_RUNNER_COMPLETE")
    found = {line.partition(",")[2] for line in result.output.splitlines()}
    assert found >= set(offered) - {"release-cgroups"}  # the unit's, and nobody's to type


def test_a_file_that_holds_no_batch_is_refused_by_name(tmp_path: Path):
    for content in ('"text"', "3", '{"tags": 3}', "{"):
        (tmp_path / "batch.json").write_text(content)
        result = CliRunner().invoke(cli, ["batch", "create", str(tmp_path / "batch.json")], env=NOWHERE)
        assert result.exit_code == 5
        assert "batch.json" in result.stderr
