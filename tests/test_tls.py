"""The server speaks TLS: to the command line, the client library, curl and browsers; and says what is wrong where it cannot."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from conftest import PATIENCE
from logservers import Authority, _openssl
from ports import free_port
from served import SERVE, Served, environment, refusal
from terminal import TASK_RUNNER

from task_runner.api import tls
from task_runner.client import AsyncClient, Client, Untrusted
from task_runner.errors import InvalidRequest, Refused
from task_runner.service import settings

pytestmark = pytest.mark.needs("openssl")


@dataclass
class Secure:
    """A daemon behind a certificate for 127.0.0.1, and who vouches for that."""

    daemon: Served
    url: str
    ca: str
    token: str

    def run(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """A verb, which finds the daemon by its state directory."""
        return subprocess.run(
            [*TASK_RUNNER, *arguments], env=environment({"state_dir": self.daemon.state.path}, **env),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip


def keys(authority: Authority) -> dict[str, str]:
    """The settings of a server with a certificate of this authority."""
    authority.server("IP:127.0.0.1")
    return {
        "tls_certificate": str(authority.directory / "server.pem"), "tls_key": str(authority.directory / "server.key")
    }  # fmt: skip


@pytest.fixture(scope="module")
def secure(authority: Authority) -> Iterator[Secure]:
    daemon = Served()
    try:
        daemon.start(*SERVE, "--bind", f"127.0.0.1:{free_port()}", **keys(authority))
        yield Secure(daemon, daemon.url, authority.file, Path(daemon.state.token).read_text().strip())
    finally:
        daemon.close()


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The file of another authority of the same name."""
    path = tmp_path_factory.mktemp("stranger") / "ca.pem"
    new = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=authority"]
    _openssl("req", *new, "-keyout", path.with_name("ca.key"), "-out", path)
    return str(path)


def test_the_command_line_trusts_whom_the_environment_names(secure: Secure):
    assert secure.url.startswith("https://127.0.0.1:")
    done = secure.run("run", "--", "sh", "-c", "echo by TLS; exit 3", SSL_CERT_FILE=secure.ca)
    assert (done.returncode, done.stdout, done.stderr) == (3, "by TLS\n", "")


@pytest.mark.parametrize("other", [True, False])
def test_a_certificate_of_a_stranger_is_refused_at_once_and_says_what_to_do(secure: Secure, stranger: str, other: bool):
    for verb, code in ((("list",), 6), (("logs", "-f", "x"), 6), (("run", "--", "true"), 125)):
        done = secure.run(*verb, **({"SSL_CERT_FILE": stranger} if other else {}))
        assert (done.returncode, done.stdout) == (code, "")
        assert f"the certificate of {secure.url} is not trusted: " in done.stderr
        assert "SSL_CERT_FILE" in done.stderr
        assert "Is the daemon running" not in done.stderr
        assert "no contact" not in done.stderr  # it is not tried again


@pytest.mark.parametrize(("content", "words"), [(None, "No such file or directory"), ("nothing\n", "no PEM file with certificates")])
def test_a_file_of_authorities_that_is_none_is_named(secure: Secure, tmp_path: Path, content: str | None, words: str):
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    done = secure.run("list", SSL_CERT_FILE=str(file))
    assert (done.returncode, done.stdout, done.stderr) == (5, "", f"task-runner: SSL_CERT_FILE: {file}: {words}\n")


def test_the_client_library_takes_a_file(secure: Secure, stranger: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with Client(secure.url, secure.token, ca_file=secure.ca) as client:
        done = client.run(["echo", "hello"])
        assert (done.output, done.exit_code) == (b"hello\n", 0)
    for ca_file in (stranger, None):
        with Client(secure.url, secure.token, ca_file=ca_file) as client, pytest.raises(Untrusted, match="is not trusted"):
            client.node()
    (tmp_path / "none").write_text("nothing\n")
    for path, words in ((tmp_path / "none", "no PEM file"), (tmp_path / "missing", "No such file")):
        with Client(secure.url, secure.token, ca_file=str(path)) as client, pytest.raises(InvalidRequest, match=words):
            client.node()
    monkeypatch.setenv("SSL_CERT_FILE", secure.ca)
    with Client(secure.url, secure.token) as client:
        assert client.node()["ready"]


def test_the_client_library_that_is_awaited_takes_it_too(secure: Secure, stranger: str):
    async def ask(ca_file: str) -> list[bytes]:
        async with AsyncClient(secure.url, secure.token, ca_file=ca_file) as client:
            task = await client.submit(["echo", "awaited"])
            return [chunk async for chunk in client.iter_output(task, follow=True)]

    assert b"".join(asyncio.run(ask(secure.ca))) == b"awaited\n"
    with pytest.raises(Untrusted):
        asyncio.run(ask(stranger))


def test_a_certificate_for_another_name_is_refused(secure: Secure):
    url = secure.url.replace("127.0.0.1", "localhost")
    with Client(url, secure.token, ca_file=secure.ca) as client, pytest.raises(Untrusted, match=r"localhost"):
        client.node()


@pytest.mark.needs("curl")
def test_curl_and_what_it_refuses(secure: Secure, stranger: str):
    def curl(ca: str, *more: str) -> subprocess.CompletedProcess[bytes]:
        words = ["curl", "-sS", "-m", "60", "--cacert", ca, "-H", f"Authorization: Bearer {secure.token}", *more, f"{secure.url}/v1/node"]
        return subprocess.run(words, capture_output=True, timeout=PATIENCE, check=False)

    assert b'"ready":true' in curl(secure.ca).stdout
    assert curl(secure.ca, "--tlsv1.3").returncode == 0
    assert curl(secure.ca, "--tls-max", "1.1").returncode == 35  # nothing older than 1.2
    assert curl(stranger).returncode == 60


def test_who_logs_in_gets_a_cookie_for_https_alone(secure: Secure):
    own = {"Origin": secure.url, "Sec-Fetch-Site": "same-origin"}
    with httpx.Client(base_url=secure.url, verify=ssl.create_default_context(cafile=secure.ca), timeout=PATIENCE) as browser:
        assert browser.get("/ui/").status_code == 200
        for headers in ({}, own):
            answer = browser.post("/ui/login", json={"token": secure.token}, headers=headers)
            assert answer.status_code == 200
            assert answer.headers["set-cookie"].split("; ")[1:] == ["Path=/", "HttpOnly", "SameSite=Strict", "Secure"]
        assert browser.get("/v1/tasks").status_code == 200
        assert browser.post("/ui/logout", headers=own).headers["set-cookie"].endswith("; Secure")


def test_what_is_not_tls_gets_no_answer(secure: Secure):
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"{secure.url.replace('https', 'http')}/health", timeout=PATIENCE)


def test_a_bind_that_others_reach_may_be_had_with_tls(authority: Authority):
    daemon = Served()
    try:
        daemon.start(*SERVE, "--bind", f"0.0.0.0:{free_port()}", **keys(authority))
        with Client(daemon.url, Path(daemon.state.token).read_text().strip(), ca_file=authority.file) as client:
            assert client.node()["ready"]
    finally:
        daemon.close()


@pytest.mark.parametrize(
    ("setting", "content", "words"),
    [
        ("tls_certificate", None, "No such file or directory"),
        ("tls_key", None, "No such file or directory"),
        ("tls_certificate", "", "is no PEM file with a certificate"),
        ("tls_key", "nothing\n", "no PEM file with a private key"),
        ("tls_certificate", "directory", "Is a directory"),
        ("tls_key", "other", "is not the key of the certificate"),
        ("tls_key", "locked", "has a passphrase"),
        ("tls_certificate", "swapped", "is no PEM file with a certificate"),
        ("tls_key", "certificate", "no PEM file with a private key"),
    ],
)
def test_files_that_cannot_be_used_are_refused_at_start(
    authority: Authority, tmp_path: Path, setting: str, content: str | None, words: str
):
    good = keys(authority)
    path = tmp_path / "file"
    if content == "directory":
        path.mkdir()
    elif content == "other":
        _openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", path)
    elif content == "locked":
        _openssl("pkey", "-in", good["tls_key"], "-aes256", "-passout", "pass:hush", "-out", path)
    elif content in ("swapped", "certificate"):
        shutil.copy(good["tls_key" if content == "swapped" else "tls_certificate"], path)
    elif content is not None:
        path.write_text(content)
    with pytest.raises(Refused, match=words) as refused:
        tls.check(settings.load(state_dir=str(tmp_path), **{**good, setting: str(path)}))
    assert str(refused.value).startswith(f"settings: {setting}: {path}")


def test_a_daemon_does_not_start_with_them(tmp_path: Path):
    (tmp_path / "empty").touch()
    given = {"tls_certificate": str(tmp_path / "empty"), "tls_key": str(tmp_path / "empty")}
    said = refusal(*SERVE, "--bind", f"127.0.0.1:{free_port()}", **given)
    assert said == f"task-runner: settings: tls_certificate: {tmp_path}/empty is no PEM file with a certificate\n"


def test_one_of_the_two_is_not_enough(authority: Authority, tmp_path: Path):
    for name, path in keys(authority).items():
        with pytest.raises(Refused, match="tls_certificate and tls_key belong together"):
            tls.check(settings.load(state_dir=str(tmp_path), **{name: path}))
    tls.check(settings.load(state_dir=str(tmp_path)))
