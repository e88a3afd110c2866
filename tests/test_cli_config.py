"""`config show`, `context` and --context: what is set, where from, and which daemon is meant."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from conftest import PATIENCE, ROOT, Daemon, wait_for

from task_runner.cli.main import cli
from task_runner.client import Client, contexts
from task_runner.client.discovery import contexts_path, find
from task_runner.errors import InvalidRequest

Cli = Callable[..., Result]
UNSET = dict.fromkeys((*[name for name in os.environ if name.startswith("TASK_RUNNER_")], "STATE_DIRECTORY"))


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """The surroundings of somebody who has set nothing."""
    return {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "conf"), "XDG_STATE_HOME": str(tmp_path / "st")}


@pytest.fixture
def tr(home: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Run a verb in this process, which saves its start."""
    monkeypatch.chdir(tmp_path)
    # a verb sets this one for the settings to find: what it was before (not there) is known only of one that is set
    monkeypatch.setenv("TASK_RUNNER_CONF", "")
    monkeypatch.delenv("TASK_RUNNER_CONF")

    def run(*arguments: str, stdin: str | None = None, **env: str) -> Result:
        return CliRunner().invoke(cli, arguments, env={**UNSET, **home, **env}, input=stdin, prog_name="task-runner")

    return run


# -- config show


def shown(result: Result) -> dict[str, dict]:
    return {each["name"]: each for each in json.loads(result.stdout)["settings"]}


def test_every_setting_has_its_value_and_says_where_from(tr: Cli, tmp_path: Path):
    conf = tmp_path / "conf.toml"
    conf.write_text('max_running = 8\ngpus = 2\n[pools]\nlicences = 2\n')
    done = tr("config", "show", "--json", TASK_RUNNER_CONF=str(conf), TASK_RUNNER_GPUS="1", TASK_RUNNER_POOLS='{"a": 1}')
    assert done.exit_code == 0, done.stderr
    found = shown(done)
    assert (found["max_running"]["value"], found["max_running"]["sources"]) == (8, [str(conf)])
    assert (found["gpus"]["value"], found["gpus"]["sources"]) == (1, ["TASK_RUNNER_GPUS"])
    assert found["pools"]["value"] == {"licences": 2, "a": 1}
    assert found["pools"]["sources"] == ["TASK_RUNNER_POOLS", str(conf)]
    assert found["auth"]["sources"] == ["default"]
    table = tr("config", "show", "--changed", "--config", str(conf)).stdout
    assert "max_running" in table
    assert "heartbeat_seconds" not in table
    assert "The other verbs talk to:" in table
    given = shown(tr("--state-dir", "/x", "config", "show", "--json"))["state_dir"]
    assert (given["value"], given["sources"]) == ("/x", ["--state-dir"])


def test_what_is_no_setting_is_named(tr: Cli, tmp_path: Path):
    conf = tmp_path / "conf.toml"
    conf.write_text("max_runing = 8\n")
    more = {"TASK_RUNNER_POOL": "{}", "TASK_RUNNER_SECRET_PASS": "hush", "TASK_RUNNER_TOKEN": "trt_hush"}
    done = tr("config", "show", TASK_RUNNER_CONF=str(conf), **more)
    assert done.exit_code == 1
    assert "TASK_RUNNER_POOL: there is no such setting; TASK_RUNNER_POOLS is meant?" in done.stderr
    assert "max_runing: there is no such setting; max_running is meant?" in done.stderr
    assert "hush" not in done.stdout + done.stderr
    assert "TASK_RUNNER_TOKEN" in done.stdout  # where the token is from


@pytest.mark.parametrize(
    ("name", "words"),
    [("bind", "serve --bind HOST:PORT"), ("port", "serve --bind HOST:PORT"), ("config", "TASK_RUNNER_CONF"),
     ("ssl_certfile", "TLS_CERTIFICATE is meant?"), ("KEYFILE", "TLS_KEY is meant?"), ("colour", "`task-runner config show` lists")],
)  # fmt: skip
def test_what_is_often_taken_for_a_setting_is_answered(tr: Cli, tmp_path: Path, name: str, words: str):
    done = tr("config", "show", **{f"TASK_RUNNER_{name.upper()}": "x"})
    assert done.exit_code == 1
    assert f"TASK_RUNNER_{name.upper()}: there is no such setting; " in done.stderr
    assert words in done.stderr
    (tmp_path / "conf.toml").write_text(f'{name} = "x"\n')
    done = tr("config", "show", "--config", "conf.toml")
    assert f"{name}: there is no such setting; " in done.stderr
    assert words.lower() in done.stderr.lower()


@pytest.mark.parametrize(
    ("text", "words"),
    [("max_running = 0", "max_running"), ("max_running = ", "not TOML"), ("heartbeat_seconds = 30", "heartbeat_seconds")],
)
def test_a_fault_is_named_and_the_rest_is_shown(tr: Cli, tmp_path: Path, text: str, words: str):
    (tmp_path / "conf.toml").write_text(text)
    done = tr("config", "show", "--config", "conf.toml")
    assert done.exit_code == 1
    assert words in done.stderr
    assert "url" in done.stdout


def test_a_password_in_an_address_is_not_shown(tr: Cli, tmp_path: Path):
    (tmp_path / "c.toml").write_text('drove_tags = ["http://ada:hush@proxy.example:1", "http://ada:hu@sh@p"]\n')
    done = tr("config", "show", "--config", "c.toml", "--json")
    assert "sh" not in shown(done)["drove_tags"]["value"][0] + shown(done)["drove_tags"]["value"][1]
    assert "http://***@proxy.example:1" in done.stdout


def test_the_client_part_says_where_address_and_token_are_from(tr: Cli):
    def client(*arguments: str, **env: str) -> dict:
        return json.loads(tr(*arguments, "config", "show", "--json", **env).stdout)["client"]

    assert client()["urlFrom"] == "default"
    found = client(TASK_RUNNER_URL="http://far.example", TASK_RUNNER_TOKEN="hush")
    assert (found["url"], found["urlFrom"]) == ("http://far.example", "TASK_RUNNER_URL")
    assert (found["hasToken"], found["tokenFrom"]) == (True, "TASK_RUNNER_TOKEN")
    assert client("--url", "unix:///x")["urlFrom"] == "--url"


# -- contexts


def test_contexts_are_added_listed_used_and_removed(tr: Cli, home: dict[str, str], tmp_path: Path):
    assert tr("context", "add", "lab", "https://lab.example:8443", "--with-token", stdin="trt_hush\n").exit_code == 0
    (tmp_path / "tok").write_text("from-file\n")
    (tmp_path / "tok").chmod(0o600)
    assert tr("context", "add", "here", "unix:///run/tr.sock", "--token-file", "tok", "--use").exit_code == 0
    path = Path(contexts_path(home))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert os.listdir(path.parent) == ["contexts.toml"]
    listed = tr("context", "list")
    assert "hush" not in listed.stdout + tr("context", "list", "--json").stdout
    assert [line.split()[0] for line in listed.stdout.splitlines()[1:]] == ["lab", "*"]
    assert (find(env=home).url, find(env=home).token) == ("unix:///run/tr.sock", "from-file")
    assert tr("context", "add", "lab", "http://x").exit_code == 4
    assert tr("context", "add", "lab", "http://localhost:1", "--force").exit_code == 0
    assert tr("context", "use", "lab").exit_code == 0
    assert find(env=home).url == "http://localhost:1"
    assert tr("context", "use", "nobody").exit_code == 5
    assert tr("context", "remove", "lab").exit_code == 0
    assert tr("context", "remove", "lab").exit_code == 5
    assert find(env=home).url_from == "default"
    assert tr("context", "use", "here").exit_code == tr("context", "use", "--none").exit_code == 0
    assert find(env=home).url_from == "default"


@pytest.mark.parametrize(
    "arguments",
    [["a b", "http://x"], ["x", "far.example"], ["x", "http://x", "--token-file", "/no/such"],
     ["x", "http://ada:hush@x"], ["x", "http://x\ny"]],
)
def test_what_cannot_be_a_context_is_refused(tr: Cli, home: dict[str, str], arguments: list[str]):
    done = tr("context", "add", *arguments)
    assert (done.exit_code, done.stdout) == (5, "")
    assert not os.path.exists(contexts_path(home))


def test_a_password_in_the_address_of_the_daemon_is_refused_and_not_shown(tr: Cli):
    for done in (tr("--url", "http://ada:hush@localhost", "config", "show", "--json"), tr("--url", "http://ada:hush@h", "list")):
        assert done.exit_code != 0
        assert "neither a user nor a password" in done.output
        assert "hush" not in done.output


def test_a_token_that_is_too_long_is_not_cut(tr: Cli, home: dict[str, str]):
    assert tr("context", "add", "x", "http://localhost", "--with-token", stdin="a" * 4096).exit_code == 0
    done = tr("context", "add", "y", "http://localhost", "--with-token", stdin="a" * 4097)
    assert (done.exit_code, list(contexts.load(contexts_path(home)).by_name)) == (5, ["x"])


def test_a_token_over_the_net_in_the_clear_is_warned_of(tr: Cli):
    assert "without TLS" in tr("context", "add", "far", "http://far.example", "--with-token", stdin="x").stderr


CONTEXTS = """\
current = "used"
[contexts.used]
url = "https://used.example"
token = "token-of-used"
[contexts.named]
url = "https://named.example"
token = "token-of-named"
[contexts.bare]
url = "https://bare.example"
"""


@pytest.fixture
def known(home: dict[str, str]) -> dict[str, str]:
    path = Path(contexts_path(home))
    path.parent.mkdir(parents=True)
    path.write_text(CONTEXTS)
    path.chmod(0o600)
    return home


def test_what_stands_above_what(known: dict[str, str], tmp_path: Path):
    state = tmp_path / "given"
    state.mkdir()
    (state / "address.json").write_text(json.dumps({"url": "http://127.0.0.1:4711", "pid": 1}))
    (state / "token").write_text("of-state")
    state_env = {"TASK_RUNNER_STATE_DIR": str(state)}
    context_env = {**state_env, "TASK_RUNNER_CONTEXT": "named"}
    url_env = {**context_env, "TASK_RUNNER_URL": "http://env.example"}

    def url(**options: str | None) -> str:
        return find(env={**known, **options.pop("env", {})}, **options).url  # type: ignore[arg-type]

    assert url() == "https://used.example"
    assert url(env=state_env) == "http://127.0.0.1:4711"
    assert url(env=context_env) == "https://named.example"
    assert url(env=url_env) == "http://env.example"
    assert url(env=url_env, context="used") == "https://used.example"
    assert url(env=url_env, context="used", state_dir=str(state)) == "http://127.0.0.1:4711"
    assert url(env=url_env, context="used", url="http://given.example") == "http://given.example"


def test_the_token_of_a_context_goes_to_its_daemon_alone(known: dict[str, str]):
    env = {**known, "TASK_RUNNER_TOKEN": "of-env"}
    assert find(env=env).token == "token-of-used"
    assert find(env=env, context="bare").token == "of-env"
    assert find("https://used.example", env=env).token == "of-env"
    assert find("https://other.example", env=known).token is None
    assert "token-of" not in repr(find(env=env)) + repr(contexts.load(contexts_path(known)))


def test_a_file_that_others_can_read_or_write_is_refused_with_the_remedy(known: dict[str, str], tr: Cli):
    path = Path(contexts_path(known))
    path.chmod(0o644)
    done = tr("list")
    assert done.exit_code == 5
    assert f"chmod 600 {path}" in done.stderr
    assert find("http://x", env=known).url == "http://x"  # it is not asked
    path.write_text('[contexts.x]\nurl = "http://x"\n')
    assert contexts.load(str(path)).by_name["x"].url == "http://x"  # there is no token in it
    path.chmod(0o620)
    with pytest.raises(InvalidRequest, match="chmod 600"):
        contexts.load(str(path))


def test_a_token_file_for_everybody_is_refused(known: dict[str, str], tmp_path: Path, tr: Cli):
    (tmp_path / "tok").write_text("x")
    (tmp_path / "tok").chmod(0o644)
    done = tr("context", "add", "t", "http://localhost:1", "--token-file", "tok")
    assert done.exit_code == 5
    assert "chmod o=" in done.stderr


@pytest.mark.parametrize(
    "text",
    ["x", "other = 1", 'current = "gone"', "contexts = 3", "[contexts.a]", '[contexts.a]\nurl = "x"', "[contexts]\na = 1",
     '[contexts.a]\nurl = "http://x"\nfoo = "1"', '[contexts.a]\nurl = "http://x"\ntoken = "1"\ntoken_file = "2"',
     '[contexts."a b"]\nurl = "http://x"', '[contexts.a]\nurl = 3'],
)  # fmt: skip
def test_a_file_that_makes_no_sense_is_refused_and_left_alone(known: dict[str, str], tr: Cli, text: str):
    path = Path(contexts_path(known))
    path.write_text(text)
    for arguments in (["context", "add", "n", "http://localhost:1"], ["list"]):
        done = tr(*arguments)
        assert done.exit_code == 5
        assert "contexts.toml" in done.stderr
    assert path.read_text() == text
    assert os.listdir(path.parent) == ["contexts.toml"]


def test_a_link_to_the_file_stays_one(home: dict[str, str], tr: Cli, tmp_path: Path):
    path = Path(contexts_path(home))
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "dotfile")
    assert tr("context", "add", "x", "http://localhost").exit_code == 0
    assert path.is_symlink()
    assert list(contexts.load(str(tmp_path / "dotfile")).by_name) == ["x"]


def test_what_is_written_is_read_again(tmp_path: Path):
    path = str(tmp_path / "d" / "contexts.toml")
    made = contexts.Context(name="a.b-c", url="http://[::1]:1/ä\"\\x", token_file="/x\n\x7f\u2028y")
    with contexts.changing(path) as held:
        held[0] = held[0].with_one(made)
    assert contexts.load(path).by_name == {"a.b-c": made}


# -- real daemons


@pytest.fixture
def by_socket(tmp_path: Path) -> Iterator[Path]:
    """A daemon of its own at a Unix socket, started as people start it; its state directory."""
    state = tmp_path / "s"
    env = {name: value for name, value in os.environ.items() if not name.startswith("TASK_RUNNER_")}
    env |= {"PYTHONPATH": str(ROOT), "TASK_RUNNER_MAX_RUNNING": "3", "TASK_RUNNER_SECRET_PASS": "hush", "TASK_RUNNER_POOL": "1"}
    with open(tmp_path / "log", "wb") as log:
        command = [sys.executable, "-m", "task_runner", "--state-dir", str(state), "serve", "--bind", f"unix:{tmp_path}/sock"]
        process = subprocess.Popen(command, env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        wait_for(lambda: (state / "address.json").exists(), (tmp_path / "log").read_text())
        yield state
    finally:
        process.terminate()
        process.wait(PATIENCE)


def test_a_daemon_at_a_socket_by_its_name(by_socket: Path, tr: Cli, home: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert "TASK_RUNNER_POOL: there is no such setting" in (tmp_path / "log").read_text()
    added = tr("context", "add", "sock", f"unix://{tmp_path}/sock", "--token-file", str(by_socket / "token"))
    assert added.exit_code == 0, added.stderr
    done = tr("--context", "sock", "batch", "submit", "-", "--wait", stdin="echo one\necho two\n")
    assert done.exit_code == 0, done.stderr
    task_id = json.loads(tr("list", "--json", "-n", "1", TASK_RUNNER_CONTEXT="sock").stdout)[0]["taskId"]
    assert tr("--context", "sock", "export", task_id, "-o", "y.tgz").exit_code == 0
    assert tr("--state-dir", str(by_socket), "export", task_id, "-o", "x.tgz").exit_code == 0
    with tarfile.open(tmp_path / "x.tgz") as archive:
        content = {each.name: archive.extractfile(each).read() for each in archive}  # type: ignore[union-attr]
    assert content[f"{task_id}/output/1.log"] == b"two\n"
    assert b"hush" not in b"".join(content.values())
    settings = {each["name"]: each for each in json.loads(content[f"{task_id}/settings.json"])}
    assert settings["max_running"] == {"name": "max_running", "value": "3", "sources": ["TASK_RUNNER_MAX_RUNNING"]}
    # and in scripts
    for name, value in {**home, "TASK_RUNNER_CONTEXT": ""}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("TASK_RUNNER_URL", raising=False)
    with Client(context="sock") as client:
        assert client.get(task_id)["outcome"] == "succeeded"


def test_the_context_decides_between_two_daemons(make_daemon: Callable[..., Daemon], tr: Cli):
    first, second = make_daemon().start(), make_daemon().start()
    for name, daemon in (("first", first), ("second", second)):
        tr("context", "add", name, daemon.url, "--token-file", str(daemon.state_dir / "token"))
    mine = first.submit("true")
    assert tr("--context", "first", "show", mine).exit_code == 0
    assert tr("--context", "second", "show", mine).exit_code == 3
    assert tr("show", mine, TASK_RUNNER_CONTEXT="first").exit_code == 0
