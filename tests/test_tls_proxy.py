"""The proxy of doc/howto/tls.md in front of a daemon, as the page has it: a real nginx."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from conftest import PATIENCE, ROOT, Daemon, wait_for
from docsamples import samples
from logservers import Authority
from ports import free_port

from task_runner.client import Client

pytestmark = pytest.mark.needs("nginx", "openssl")
SETTINGS = {"allowed_hosts": ["build.example"], "max_body_bytes": 4 * 1024 * 1024}
MAIN = """
daemon off;
pid {0}/pid;
error_log {0}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {0}/body;
    proxy_temp_path {0}/proxy;
    fastcgi_temp_path {0}/fastcgi;
    uwsgi_temp_path {0}/uwsgi;
    scgi_temp_path {0}/scgi;
    include {0}/task-runner.conf;
}}
"""


@dataclass
class Front:
    """The proxy, and who vouches for it."""

    url: str
    ca: str


@pytest.fixture(scope="module")
def front(shared: Daemon, authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    directory, port = tmp_path_factory.mktemp("nginx"), free_port()
    authority.server("IP:127.0.0.1")
    (conf,) = [each.text for each in samples(ROOT / "doc/howto/tls.md") if each.marks.get("file") == "task-runner.conf"]
    for theirs, ours in (
        ("listen 8443", f"listen 127.0.0.1:{port}"),
        ("/etc/ssl/build.example.pem", str(authority.directory / "server.pem")),
        ("/etc/ssl/build.example.key", str(authority.directory / "server.key")),
        ("http://127.0.0.1:8000", shared.url),
    ):
        assert conf.count(theirs) == 1
        conf = conf.replace(theirs, ours)
    (directory / "task-runner.conf").write_text(conf)
    (directory / "nginx.conf").write_text(MAIN.format(directory))
    directory.chmod(0o755)
    nginx = shutil.which("nginx", path="/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin")
    assert nginx is not None
    process = subprocess.Popen([nginx, "-p", str(directory), "-c", str(directory / "nginx.conf")], stderr=subprocess.DEVNULL)
    found = Front(f"https://127.0.0.1:{port}", authority.file)
    try:
        with web(found) as http:
            wait_for(lambda: _answers(http, process, directory), "nginx answers")
        yield found
    finally:
        process.terminate()
        process.wait(PATIENCE)


def web(front: Front, **headers: str) -> httpx.Client:
    verify = ssl.create_default_context(cafile=front.ca)
    return httpx.Client(base_url=front.url, verify=verify, timeout=PATIENCE, headers=headers)


def _answers(http: httpx.Client, process: subprocess.Popen[bytes], directory: Path) -> bool:
    assert process.poll() is None, (directory / "error.log").read_text()
    try:
        return http.get("/health").is_success
    except httpx.TransportError:
        return False


def test_output_and_input_pass_as_they_come(front: Front, shared: Daemon):
    with Client(front.url, shared.token, ca_file=front.ca) as client:
        task = client.submit(["sh", "-c", "while read line; do echo got $line; done"], open_stdin=True)
        wait_for(lambda: client.get(task)["state"] == "running", "it runs")
        output = client.iter_output(task, follow=True)
        for word in (b"one", b"two"):
            client.send_input(task, word + b"\n")
            assert next(output) == b"got " + word + b"\n"  # neither waits for the end
        client.send_input(task, b"", end=True)
        assert b"".join(output) == b""
        assert client.wait(task)["outcome"] == "succeeded"


def test_events_pass_as_they_come(front: Front, shared: Daemon):
    with Client(front.url, shared.token, ca_file=front.ca) as client:
        task = client.submit(["sleep", "600"])
        events = client.iter_events(task)
        states = []
        for event in events:
            states.append(event["state"])
            if event["state"] == "running":
                client.stop(task, wait=0)
        assert states[-1] == "exited"


def test_a_browser_logs_in_and_its_address_is_in_the_audit_log(front: Front, shared: Daemon):
    own = {"Origin": front.url, "Sec-Fetch-Site": "same-origin"}
    with web(front, **{"X-Forwarded-For": "203.0.113.9"}) as browser:  # what anybody may say of himself
        assert browser.get("/ui/").status_code == 200
        answer = browser.post("/ui/login", json={"token": shared.token}, headers=own)
        assert answer.headers["set-cookie"].endswith("; Secure")
        assert browser.get("/v1/tasks").status_code == 200
        assert browser.post("/v1/node/undrain", headers=own).status_code == 200
        assert browser.post("/v1/node/undrain", headers={**own, "Origin": "https://elsewhere.example"}).status_code == 403
        assert browser.post("/ui/logout", headers=own).status_code == 204
    lines = shared.http.get("/v1/audit", params={"limit": 10_000}).json()  # the file has them a little later
    assert {line["from"] for line in lines if line.get("route") == "/ui/login"} == {"127.0.0.1"}


def test_it_answers_to_the_names_that_it_knows(front: Front):
    with web(front) as http:
        assert http.get("/health", headers={"Host": "build.example"}).status_code == 200
        assert http.get("/health", headers={"Host": "build.example:8443"}).status_code == 200
        assert http.get("/health", headers={"Host": "elsewhere.example"}).status_code == 421


def test_a_body_as_large_as_the_daemon_takes_passes(front: Front, shared: Daemon):
    most = SETTINGS["max_body_bytes"]
    assert isinstance(most, int)
    with web(front, Authorization=f"Bearer {shared.token}", **{"Content-Type": "application/json"}) as http:
        body = b'{"command": ["true"]}'
        assert http.post("/v1/tasks", content=body + b" " * (most - len(body))).status_code == 201
        assert http.post("/v1/tasks", content=body + b" " * most).status_code == 413
