"""Every sample of every page does what the page says; how pages mark them stands in tests/docsamples.py."""

from __future__ import annotations

import configparser
import json
import os
import re
import subprocess
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import PATIENCE, ROOT, Daemon, kill_tasks, wait_for
from docsamples import IDLE, MARKS, READ, RUN, Page, Programs, Sample, kind_of, samples, steps
from engines import Server
from engines_cri import CriServer
from images import BUSYBOX_IMAGE
from ports import free_port
from pydantic import TypeAdapter

from task_runner.lib.statedir import StateDirectory
from task_runner.model.template import Template
from task_runner.service.settings import Settings
from task_runner.service.validate import parse_spec

#: a call for each route, which are run one by one
CALLS = ROOT / "doc/reference/api.md"
#: pages whose samples are run by other rules, which stand at the head of that test
ELSEWHERE = {"doc/api.md": "test_docs.py", "doc/reference/spec.md": "test_spec_reference.py", "doc/reference/api.md": __name__}
PAGES = [page for page in [ROOT / "README.md", *sorted((ROOT / "doc").rglob("*.md"))] if str(page.relative_to(ROOT)) not in ELSEWHERE]
SAMPLES = [sample for page in PAGES for sample in samples(page)]
#: settings of the daemon that a page is read beside; others have one with none
SETTINGS: dict[str, dict[str, Any]] = {
    "doc/dialects.md": {"drove_pull": "missing"},
    "doc/howto/containerd.md": {"container_networks": ["host"]},
    "doc/howto/containers.md": {"container_mounts": ["/usr/share:ro"]},
    "doc/howto/tracing.md": {"tracing": True},
}
#: by what a sample needs: the fixture that has it
ENGINES = {"podman": "podman_server", "containerd": "cri_server"}
#: the page starts the daemon itself
OWN = {page for page in PAGES if any("task-runner serve" in each.text for each in samples(page) if each.runs)}
#: how many samples of a page cannot run here; each says why. A new one is a decision.
NOT_RUN = {
    "README.md": 4,
    "doc/dialects.md": 1,
    "doc/examples/game-servers/README.md": 2,
    "doc/howto/cli.md": 2,
    "doc/howto/containerd.md": 1,
    "doc/howto/forwarding.md": 2,
    "doc/howto/podman-docker.md": 1,
    "doc/howto/secrets.md": 1,
    "doc/howto/service.md": 3,
    "doc/howto/tokens.md": 1,
    "doc/howto/tracing.md": 1,
    "doc/howto/users.md": 1,
    "doc/quickstart.md": 1,
}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Daemon]]:
    """The daemon for a page: one for all that need no settings."""
    made: dict[str, Daemon] = {}

    def daemon(settings: dict[str, Any]) -> Daemon:
        key = json.dumps(settings)
        if key not in made:
            made[key] = Daemon(tmp_path_factory.mktemp("daemon") / "state", **settings)
            made[key].start()
        return made[key]

    yield daemon
    for each in made.values():
        each.close()


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    made = Programs(tmp_path_factory.mktemp("programs"))
    yield made
    made.close()


@pytest.fixture
def settings(page: Path, request: pytest.FixtureRequest) -> dict[str, Any]:
    """Of the daemon of this page, with the engine that its samples need."""
    needs = {each.marks.get("needs") for each in SAMPLES if each.page == page}
    found = dict(SETTINGS.get(name_of(page), {}))
    for need, fixture in ENGINES.items():
        if need in needs:
            server = request.getfixturevalue(fixture)
            _name_it(server)
            found["engines"] = server.sockets
    return found


def _name_it(server: Server) -> None:
    """The image of the tests has the name that the pages use."""
    name = "docker.io/library/busybox:1"
    if isinstance(server, CriServer):
        server.command("images", "tag", "--force", BUSYBOX_IMAGE, name)
        wait_for(lambda: server.asked(lambda engine: engine.image_id(name)), f"the CRI knows {name}")
    else:
        server.command("tag", BUSYBOX_IMAGE, name)


@pytest.fixture
def own_state(tmp_path: Path) -> Iterator[Path]:
    """A state directory; at the end nothing lives of any that a page has made."""
    yield tmp_path / "state"
    for lock in tmp_path.rglob("daemon.lock"):
        kill_tasks(StateDirectory(str(lock.parent)))


def _runnable() -> Iterator[Any]:
    for page in PAGES:
        mine = [each for each in SAMPLES if each.page == page]
        needs = sorted({each.marks["needs"] for each in mine if "needs" in each.marks})
        if steps(mine):
            yield pytest.param(page, id=name_of(page), marks=[pytest.mark.needs(each) for each in needs])


@pytest.mark.needs("curl")
@pytest.mark.parametrize("page", list(_runnable()))
def test_the_samples_of_a_page_do_what_it_says(
    page: Path, settings: dict[str, Any], daemons: Callable[..., Daemon], programs: Programs, own_state: Path, tmp_path: Path
):
    mine = steps([each for each in SAMPLES if each.page == page])
    if page in OWN:
        told = {f"TASK_RUNNER_{name.upper()}": value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
        surroundings = Page(tmp_path / "page", state=own_state, port=free_port(), environment=told, programs=programs)
    else:
        daemon = daemons(settings)
        port = int(daemon.url.rpartition(":")[2])
        found = {"TASK_RUNNER_URL": daemon.url, "TASK_RUNNER_TOKEN": daemon.token}
        surroundings = Page(tmp_path / "page", state=daemon.state_dir, port=port, environment=found, programs=programs)
    surroundings.run(mine)


@pytest.mark.parametrize("sample", [pytest.param(each, id=each.place) for each in SAMPLES if each.language in READ])
def test_what_is_shown_of_data_is_valid(sample: Sample):
    if sample.language == "yaml":
        assert yaml.safe_load(sample.text)
        return
    if sample.language == "ini":
        parser = configparser.ConfigParser(strict=False, allow_no_value=False)
        parser.read_string(sample.text if "[" in sample.text else f"[variables]\n{sample.text}")
        return
    document = json.loads(sample.text) if sample.language == "json" else tomllib.loads(sample.text)
    kind = kind_of(document)
    if kind == "tasks":
        for each in document:
            parse_spec(each)
    elif kind == "template":
        TypeAdapter(Template).validate_python(document)
    elif kind == "task":
        parse_spec(document)
    elif sample.language == "toml":
        assert set(document) <= set(Settings.model_fields), f"no such setting: {set(document) - set(Settings.model_fields)}"
        for key, value in document.items():
            TypeAdapter(Settings.model_fields[key].annotation).validate_python(value)


#: calls that are refused in a good daemon, and why
REFUSED = {
    "/redeliver": 404,  # the task has no notification
    "/ui/login": 401,  # the token stands for one
}


@pytest.mark.needs("curl")
def test_each_call_of_the_generated_page_is_taken(daemons: Callable[..., Daemon], tmp_path: Path):
    """A call on something that there is: done, or in conflict with its state, and nothing else."""
    daemon = daemons({})
    (tmp_path / ".curlrc").write_text('silent\noutput = "/dev/null"\nwrite-out = "%{http_code}"\n')
    (tmp_path / "FILE").write_text("input")
    calls = [each for each in samples(CALLS) if each.language == "sh"]
    assert len(calls) > 40
    there: dict[str, str] = {}
    for call in calls:
        there = _objects(daemon, call.text, there)
        given = {"URL": daemon.url, "AUTH": f"Authorization: Bearer {daemon.token}"} | there
        answered = _begun if "/events" in call.text else _done
        allowed = {code for end, code in REFUSED.items() if end in call.text} or {200, 201, 202, 204, 303, 409}
        code = answered(call, {"PATH": os.environ["PATH"], "CURL_HOME": str(tmp_path), **given}, tmp_path)
        assert code in allowed, f"{call.place}: {call.text}{code}"
        if changes(call.text):
            if "$ID" in call.text:
                daemon.post(f"/v1/tasks/{there.pop('ID')}/stop", {"graceSeconds": 0})
            daemon.post("/v1/node/undrain")


def _done(call: Sample, env: dict[str, str], directory: Path) -> int:
    """The status of an answer that ends."""
    command = ["sh", "-c", call.text.replace("wait=60", "wait=0.1")]
    done = subprocess.run(command, env=env, cwd=directory, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, f"{call.place}: {done.stderr}"
    return int(done.stdout)


def _begun(call: Sample, env: dict[str, str], directory: Path) -> int:
    """The status of an answer without an end, as soon as it is there."""
    head = directory / "head"
    head.unlink(missing_ok=True)
    command = ["sh", "-c", call.text.replace("curl ", "exec curl --dump-header head ")]
    with subprocess.Popen(command, env=env, cwd=directory, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as curl:
        try:
            wait_for(lambda: curl.poll() is not None or (head.exists() and b"\r\n\r\n" in head.read_bytes()), f"{call.place}: an answer")
            assert curl.poll() is None, f"{call.place}: {curl.stderr and curl.stderr.read().decode()}"
        finally:
            curl.kill()
    return int(head.read_text().split()[1])


def changes(call: str) -> bool:
    """Whether it may leave a task other than it was."""
    return re.search(r" (-X|--json|--data|-T|--upload)|follow=", call) is not None


def _objects(daemon: Daemon, call: str, there: dict[str, str]) -> dict[str, str]:
    """What the variables of a call stand for: a task that runs and has a file, a batch, a template, a token."""
    found = {"attempt": "1", "n": "1", "path": "made", "name": "sample"} | there
    if "$ID" in call:
        if "ID" not in found:
            found["ID"] = daemon.submit("sh", "-c", "touch made; cat", openStdin=True)
            daemon.wait_state(found["ID"], "running")
            wait_for(lambda: (daemon.work(found["ID"]) / "made").exists(), "the file is made")
        if "follow=" in call:
            daemon.post(f"/v1/tasks/{found['ID']}/stop", {"graceSeconds": 0})  # so that the stream ends
    if "$BATCH" in call:
        found["BATCH"] = daemon.post("/v1/batches", {"tasks": [{"command": ["true"]}]}).json()["batchId"]
    if "$name" in call:
        daemon.http.put("/v1/templates/sample", json={"task": {"command": ["true"]}})
        daemon.post("/v1/tokens", {"name": "sample", "scopes": ["read"]})
    return found


def test_every_block_says_what_it_is():
    for each in SAMPLES:
        assert each.language in (*RUN, *READ, *IDLE), f"{each.place}: of which language? {each.text[:60]}"
        assert set(each.marks) <= MARKS, f"{each.place}: {each.marks}"


def test_what_does_not_run_says_why_and_is_counted():
    left_out = [each for each in SAMPLES if "not-run" in each.marks]
    for each in left_out:
        why = each.marks["not-run"]
        assert len(why) > 8, each.place
        for test in re.findall(r"\btest_\w+\.py\b", why):
            assert (ROOT / "tests" / test).exists(), f"{each.place}: {test}"
    assert Counter(name_of(each.page) for each in left_out) == NOT_RUN, "\n".join(each.place for each in left_out)
