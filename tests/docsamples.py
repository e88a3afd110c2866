"""The samples of the documentation: how a page marks them, and how they are run.

A page is run from top to bottom, by one shell, in a directory of its own with a `HOME` of its own. What follows
directly behind a sample as a `text` block is what it prints, where `…` stands for anything.

| block | is |
| --- | --- |
| `sh` | run; each line has to succeed |
| `console` | lines behind `$ ` are run, the others are what they print |
| `python` | run as a program |
| `json`, `toml`, `yaml`, `ini` | read; a task, a template, settings are validated |
| `text`, `mermaid` | nothing to run |

Marks stand behind the language: `exit=3` (it ends so; `any`), `background` (it runs on, as in a terminal of its own; the page goes on
when a daemon answers), `file=NAME` (the reader saves it), `needs=podman` (only where that is there), `not-run="why"`.
In a comment, `<!-- sh` to `-->`, stands what a reader has, or looks at, and the page need not say.
"""

from __future__ import annotations

import ctypes
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from conftest import PATIENCE, ROOT
from nursery import Forked, fork_server

RUN = ("sh", "console", "python")
READ = ("json", "toml", "yaml", "ini")
IDLE = ("text", "mermaid")
MARKS = {"exit", "background", "file", "needs", "not-run"}

_FENCE = re.compile(r"^( *)```(\S*) *(.*)$")
_MARK = re.compile(r'([\w-]+)(?:=(?:"([^"]*)"|(\S+)))?')


@dataclass(slots=True, kw_only=True)
class Sample:
    """A block of a page."""

    page: Path
    line: int
    language: str
    marks: dict[str, str] = field(default_factory=dict)
    text: str = ""
    #: what it prints, where the page says so
    printed: str | None = None
    hidden: bool = False

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def runs(self) -> bool:
        return self.language in RUN and "not-run" not in self.marks


def samples(page: Path) -> list[Sample]:
    """All blocks of a page, in order; indented ones have the language ``""``."""
    found: list[Sample] = []
    open_, indent, between = None, 0, ""
    blank = True
    for number, line in enumerate(page.read_text().split("\n"), 1):
        if open_ is not None:
            if line.strip() == ("-->" if open_.hidden else "```"):
                if open_.language == "text" and found and not open_.hidden and not between.strip() and found[-1].runs:
                    found[-1].printed = open_.text
                else:
                    found.append(open_)
                open_, between = None, ""
            else:
                open_.text += line[indent:] + "\n"
        elif fence := _FENCE.match(line):
            indent = len(fence[1])
            marks = {name: quoted or bare for name, quoted, bare in _MARK.findall(fence[3])}
            open_ = Sample(page=page, line=number, language=fence[2], marks=marks)
        elif line.startswith("<!-- ") and line.split()[1] in RUN and "-->" not in line:
            indent = 0
            marks = {name: quoted or bare for name, quoted, bare in _MARK.findall(line[8:])}
            open_ = Sample(page=page, line=number, language=line.split()[1], marks=marks, hidden=True)
        else:
            if line.startswith("    ") and blank and line.strip():
                found.append(Sample(page=page, line=number, language="", text=line))
            between += line
        blank = not line.strip()
    assert open_ is None, f"a block is not closed: {open_}"
    return found


def commands(text: str) -> list[tuple[str, str]]:
    """The lines of a terminal: each command with what it prints."""
    found: list[tuple[str, str]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], ""))
        elif found[-1][0].endswith("\\") and not found[-1][1]:
            found[-1] = (f"{found[-1][0]}\n{line.removeprefix('> ')}", "")
        else:
            found[-1] = (found[-1][0], found[-1][1] + line + "\n")
    return found


def like(expected: str, found: str) -> bool:
    """`…` alone on a line stands for any number of lines, within a line for anything."""
    lines = ["(?:.*\n)?" if line.strip() == "…" else _line(line) for line in expected.strip("\n").split("\n")]
    return re.fullmatch("".join(lines), found.strip("\n") + "\n", re.DOTALL) is not None


def _line(line: str) -> str:
    return " *[^\n]*".join(re.escape(part.rstrip()) if n else re.escape(part) for n, part in enumerate(line.split("…"))) + " *\n"


@dataclass(slots=True, kw_only=True)
class Step:
    """One thing that the shell of a page does."""

    sample: Sample
    text: str
    printed: str | None
    exit_code: int | None = 0
    #: failing in the middle is failing
    strict: bool = True


def steps(of: list[Sample]) -> list[Step]:
    found: list[Step] = []
    for sample in of:
        if "file" in sample.marks:
            write = f"cat > {shlex.quote(sample.marks['file'])} <<'END OF FILE'\n{sample.text}END OF FILE\n"
            found.append(Step(sample=sample, text=write, printed=None))
        if not sample.runs:
            continue
        if sample.language == "console":
            typed = commands(sample.text)
            for number, (command, printed) in enumerate(typed):
                asked = number + 1 < len(typed) and typed[number + 1][0] == "echo $?"
                found.append(Step(sample=sample, text=command + "\n", printed=printed, exit_code=None if asked else 0, strict=False))
            continue
        text = sample.text
        if sample.language == "python":
            text = f"python3 -W error - <<'END OF PROGRAM'\n{text}END OF PROGRAM\n"
        said = sample.marks.get("exit", "0")
        code = None if said == "any" else int(said)
        found.append(Step(sample=sample, text=text, printed=sample.printed, exit_code=code, strict=code == 0))
    return found


class Programs:
    """Runs `task-runner`, daemons too, and the Python of samples, each forked from a process that has everything loaded:
    most of a page's time would be the start of Python. In their place stand small shell scripts, which ask over a connection.

    Such a script says its pid, and all that its program is to have is read of it: command line, directory,
    environment, standard streams. It ends as the program does; when it is killed, so is the program."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        host, port = self._listener.getsockname()
        for name, first in (("task-runner", ""), ("python3", _OTHER)):
            text = _ASK.format(first=first.format(python=shlex.quote(sys.executable)), host=host, port=port)
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                asked, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._run, args=(asked,), daemon=True).start()

    def _run(self, asked: socket.socket) -> None:
        with asked, asked.makefile() as said:
            program = self._begin(Path("/proc") / said.readline().strip())
            # who asked has gone: so the page was ended, and what it runs with it
            watcher = threading.Thread(target=_kill_after, args=(said, program), daemon=True)
            watcher.start()
            code = program.wait()
            try:
                asked.sendall(b"%d\n" % code)
                asked.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has gone
            watcher.join()

    def _begin(self, asks: Path) -> Forked:
        _shell, script, *arguments = map(os.fsdecode, (asks / "cmdline").read_bytes().split(b"\0")[:-1])
        assert Path(script).parent == self.directory, script
        pairs = (os.fsdecode(each).partition("=") for each in (asks / "environ").read_bytes().split(b"\0") if each)
        env, cwd = {name: value for name, _, value in pairs}, os.readlink(asks / "cwd")
        streams = _streams(int(asks.name))
        try:
            kind = {"task-runner": "verb", "python3": "python"}[Path(script).name]
            named = dict(zip(("stdin", "stdout", "stderr"), streams, strict=True))
            if kind == "verb" and arguments[:1] == ["serve"]:
                # one that is told no address gets a free one
                told = {"--bind", "executor"} & set(arguments)
                bind = [] if told else ["--bind", f"127.0.0.1:{env['PORT']}"]
                return fork_server("-m", "task_runner", *arguments, *bind, env=env, cwd=cwd, launchers=True, **named)
            return Forked(kind, *arguments, env=env, cwd=cwd, **named)
        finally:
            for each in streams:
                os.close(each)


def _kill_after(said: TextIO, program: Forked) -> None:
    """Kill a program when the connection ends of who asked for it."""
    try:
        said.readline()
    except OSError:
        pass  # it was killed before it read how the program ended
    program.kill()


def _streams(pid: int) -> list[int]:
    """The standard streams of a process, here."""
    pidfd = os.pidfd_open(pid)
    try:
        found = [_LIBC.syscall(_PIDFD_GETFD, pidfd, number, 0) for number in (0, 1, 2)]
    finally:
        os.close(pidfd)
    assert min(found) >= 0, os.strerror(ctypes.get_errno())
    return found


_LIBC = ctypes.CDLL(None, use_errno=True)
#: pidfd_getfd(2), on every architecture
_PIDFD_GETFD = 438
_OTHER = """[ "$*" = "-W error -" ] || exec {python} "$@"
"""
#: nothing is redirected in the shell itself: its own streams are taken from it at any moment
_ASK = """#!/bin/bash
{first}exec 3<> /dev/tcp/{host}/{port}
(echo $$ >&3)
read -r -u 3 code || exit 1
[ "$code" -ge 0 ] || kill "$code" $$
exit "$code"
"""


class Page:
    """Runs the samples of a page."""

    def __init__(self, directory: Path, *, state: Path, port: int, environment: dict[str, str], programs: Programs) -> None:
        """``port``: what stands for 8000 in the samples. ``state``: of the daemon, there or to come."""
        self.directory = directory
        self._port = port
        self._steps = directory / "steps"
        home = directory / "home"
        for each in (self._steps, directory / "bin", directory / "here", home / ".local/state"):
            each.mkdir(parents=True)
        (home / ".local/state/task-runner").symlink_to(state)
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("TASK_RUNNER_", "XDG_", "PYTHON"))}
        self._environment = {
            **kept,
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / ".local/state"),
            "PATH": f"{directory}/bin:{programs.directory}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "TASK_RUNNER_STATE_DIR": str(state),
            "PORT": str(port),
            "CHECKOUT": str(ROOT),
            **environment,
        }

    def run(self, of: list[Step]) -> None:
        """Raises AssertionError, with the place of the sample, if one does not do what the page says."""
        script = [_PROLOGUE]
        for number, step in enumerate(of):
            (self._steps / f"{number}.sh").write_text(self._here(step.text))
            kind = "background" if "background" in step.sample.marks else "strict" if step.strict else "loose"
            script.append(f"{kind} {number}")
        with open(self._steps / "said", "w+") as said:
            shell = subprocess.Popen(
                ["bash", "-c", "\n".join(script), "page", str(self._steps)],
                cwd=self.directory / "here",
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                start_new_session=True,
            )
            try:
                self._wait(shell)
            except subprocess.TimeoutExpired as late:
                said.write(f"nothing got done within {late.timeout} s\n")
            finally:
                self._end(shell)
            said.seek(0)
            told = said.read()
        for number, step in enumerate(of):
            self._judge(step, number, told)

    def _wait(self, shell: subprocess.Popen[bytes]) -> None:
        """Until it ends. Raises TimeoutExpired where no step ends within PATIENCE: a page may have any number of them."""
        before = -1
        while (done := len(list(self._steps.glob("*.ended")))) > before:
            try:
                shell.wait(PATIENCE)
                return
            except subprocess.TimeoutExpired as late:
                before, latest = done, late
        raise latest

    def _here(self, text: str) -> str:
        return re.sub(r"\b(127\.0\.0\.1|localhost):(8000|10000)\b", rf"\1:{self._port}", text)

    def _judge(self, step: Step, number: int, said: str) -> None:
        ended, output = self._steps / f"{number}.ended", self._steps / f"{number}.out"
        printed = output.read_text(errors="replace") if output.exists() else "(it was not begun)\n"
        told = f"{step.sample.place}:\n{step.text}\nprinted:\n{printed}{said}"
        assert ended.exists(), f"did not succeed: {told}"
        code = int(ended.read_text())
        assert step.exit_code in (None, code), f"ended with {code}: {told}"
        if step.printed is not None:
            printed = printed.replace(f":{self._port}", ":8000")
            assert like(step.printed, printed), f"{told}\nthe page says:\n{step.printed}"

    def _end(self, shell: subprocess.Popen[bytes]) -> None:
        """Kill what the page has left in the background, and the shell."""
        for group in (shell.pid, *(int(each.read_text()) for each in self._steps.glob("*.pid"))):
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                pass
        shell.wait()


_PROLOGUE = f"""
steps=$1 code=0
strict() {{
    set -eo pipefail
    . "$steps/$1.sh" > "$steps/$1.out" 2>&1
    echo $? > "$steps/$1.ended"
    set +eo pipefail
    code=0
}}
loose() {{
    (exit $code)
    . "$steps/$1.sh" > "$steps/$1.out" 2>&1
    code=$?
    echo $code > "$steps/$1.ended"
}}
background() {{
    setsid bash -c '. "$0"' "$steps/$1.sh" > "$steps/$1.out" 2>&1 < /dev/null &
    echo $! > "$steps/$1.pid"
    deadline=$((SECONDS + {int(PATIENCE)}))
    until curl -sf -m 5 http://127.0.0.1:$PORT/health > /dev/null; do
        [ $SECONDS -lt $deadline ] && kill -0 $! 2> /dev/null || exit 1
        sleep 0.1
    done
    echo 0 > "$steps/$1.ended"
}}
"""


def kind_of(document: object) -> str | None:
    """What a JSON or TOML block is, by its keys."""
    if isinstance(document, dict):
        if "task" in document and "parameters" in document:
            return "template"
        if {"command", "shell", "actions", "machine", "template"} & set(document):
            return "task"
    if isinstance(document, list) and document and all(kind_of(each) == "task" for each in document):
        return "tasks"
    return None

