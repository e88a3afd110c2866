"""Completion in real shells, each in a pseudo-terminal, and what is offered."""

from __future__ import annotations

import os
import shlex
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import PATIENCE, ROOT, Daemon
from terminal import in_terminal

from task_runner.cli import suggest
from task_runner.cli.main import cli

#: as `-m task_runner`, but for the moment after which nothing is offered: a loaded machine may take longer
PATIENT = f"from task_runner.cli import suggest; suggest.MOMENT = {PATIENCE}; from task_runner.cli.entry import main; main()"
PROMPT = "ready-> "


@pytest.fixture(scope="module")
def bin_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the command as it is installed."""
    directory = tmp_path_factory.mktemp("bin")
    script = directory / "task-runner"
    script.write_text(f"#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.quote(sys.executable)} -c {shlex.quote(PATIENT)} \"$@\"\n")
    script.chmod(0o755)
    return directory


@pytest.fixture
def surroundings(shared: Daemon, bin_dir: Path, tmp_path: Path) -> dict[str, str]:
    return {
        **shared.env, "PATH": f"{bin_dir}:{os.environ['PATH']}", "HOME": str(tmp_path),
        "XDG_CONFIG_HOME": str(tmp_path / "c"), "XDG_DATA_HOME": str(tmp_path / "d"), "XDG_CACHE_HOME": str(tmp_path / "k"),
        "PS1": PROMPT,
    }  # fmt: skip


SHELLS = {
    "bash": (["bash", "--norc", "--noprofile"], [f"PS1='{PROMPT}'", "bind 'set enable-bracketed-paste off'"], "source <(task-runner completion bash)"),
    "zsh": (["zsh", "-f"], [f"PS1='{PROMPT}'", "unset zle_bracketed_paste", "autoload -U compinit && compinit -u"], "source <(task-runner completion zsh)"),
    "fish": (["fish", "--no-config"], [f"function fish_prompt; echo -n '{PROMPT}'; end", "set fish_autosuggestion_enabled 0"], "task-runner completion fish | source"),
}


@pytest.mark.parametrize("shell", [pytest.param(each, marks=pytest.mark.needs(each)) for each in SHELLS])
def test_tab_completes_verbs_ids_and_states(shared: Daemon, surroundings: dict[str, str], tmp_path: Path, shell: str):
    task_id = shared.submit("true", name="the one, and only")
    shared.wait(task_id)
    command, begin, source = SHELLS[shell]
    with in_terminal(*command, env=surroundings, cwd=tmp_path) as child:
        for line in (*begin, source, "echo beg''un"):
            child.send(line + "\r")
        child.expect("begun")
        child.send("task-runner expo\t--help\r")
        child.expect("Usage: task-runner export")
        child.expect(PROMPT)
        child.send(f"task-runner show {task_id[:8]}\t--json\r")
        child.expect('"state": "exited"')
        child.expect(PROMPT)
        child.send("task-runner list --state provis\t--json\r")
        child.expect(r"\[\]")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """When its moment is over a completion ends its process, and here that is the one that runs the tests."""
    monkeypatch.setattr(suggest, "MOMENT", PATIENCE)


def offered(env: dict[str, str], shell: str, *words: str) -> list[str]:
    """What a shell would be given for a line, the last word of which is not complete."""
    asked = {
        **env, "_TASK_RUNNER_COMPLETE": f"{shell}_complete", "COMP_WORDS": shlex.join(["task-runner", *words]),
        "COMP_CWORD": words[-1] if shell == "fish" else str(len(words)),
    }  # fmt: skip
    done = CliRunner().invoke(cli, [], env=asked, prog_name="task-runner", auto_envvar_prefix=None)
    assert done.stderr == ""
    return [line for line in done.stdout.splitlines() if line]


def test_everything_with_a_name_is_offered_with_what_it_is(shared: Daemon, tmp_path: Path):
    env = {**shared.env, "XDG_CONFIG_HOME": str(tmp_path)}
    CliRunner().invoke(cli, ["context", "add", "lab-1", "http://lab.example"], env=env)
    task_id = shared.submit("true", name="deploy, quickly")
    shared.wait(task_id)
    batch_id = shared.post("/v1/batches", {"tasks": [{"command": ["true"]}], "name": "nightly"}).json()["batchId"]
    template = {"task": {"command": ["true"]}, "description": "Builds it.\nAll of it."}
    assert shared.http.put("/v1/templates/build", json=template).status_code in (200, 201)
    lines = offered(env, "fish", "show", task_id[:4])
    assert f"plain,{task_id}\tsucceeded: deploy; quickly" in lines
    lines = offered(env, "zsh", "show", task_id[:4])
    at = lines.index(task_id)
    assert lines[at + 1] == "succeeded: deploy; quickly"
    assert f"plain,{batch_id}" in offered(env, "bash", "batch", "show", batch_id[:3])
    assert f"plain,{batch_id}" in offered(env, "bash", "list", "--batch", batch_id[:3])
    assert offered(env, "bash", "run", "--template", "bu") == ["plain,build"]
    assert offered(env, "bash", "--context", "la") == ["plain,lab-1"]
    assert offered(env, "bash", "context", "use", "l") == ["plain,lab-1"]
    assert offered(env, "bash", "list", "--outcome", "canc") == ["plain,cancelled"]
    # a task that is named already is not named twice
    assert offered(env, "bash", "wait", task_id, task_id[:6]) == []
    # the daemon is the one that the line means
    assert offered(env, "bash", "--url", "http://127.0.0.1:1", "show", task_id[:4]) == []


@pytest.mark.parametrize("kind", ["nobody", "silent", "token", "nonsense"])
def test_it_is_silent_where_the_daemon_is_not_to_be_asked(
    make_daemon: Callable[..., Daemon], shared: Daemon, tmp_path: Path, kind: str
):
    env = {**shared.env, "XDG_CONFIG_HOME": str(tmp_path)}
    with socket.create_server(("127.0.0.1", 0)) as listener:
        there = f"http://127.0.0.1:{listener.getsockname()[1]}"
        env |= {
            "nobody": {"TASK_RUNNER_URL": "http://127.0.0.1:1"}, "silent": {"TASK_RUNNER_URL": there},
            "token": {"TASK_RUNNER_TOKEN": "wrong"}, "nonsense": {"TASK_RUNNER_URL": "x"},
        }[kind]  # fmt: skip
        if kind == "silent":
            import subprocess

            asked = {**env, "_TASK_RUNNER_COMPLETE": "bash_complete", "COMP_WORDS": "task-runner show a", "COMP_CWORD": "2"}
            done = subprocess.run(
                [sys.executable, "-m", "task_runner"], env={**asked, "PYTHONPATH": str(ROOT)}, capture_output=True, timeout=PATIENCE,
            )
            assert (done.stdout.strip(), done.stderr) == (b"", b"")
        else:
            assert offered(env, "bash", "show", "a") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_the_help_says_how_to_install_it(shell: str):
    done = CliRunner().invoke(cli, ["completion", "--help"])
    assert f"task-runner completion {shell}" in done.stdout
    assert "_task_runner_completion" in CliRunner().invoke(cli, ["completion", shell]).stdout
