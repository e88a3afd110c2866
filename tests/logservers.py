"""Receivers of forwarded output: small syslog servers of our own that do what a test wants, rsyslogd, and journald."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

MESSAGE = re.compile(
    rb"<(?P<priority>\d{1,3})>1 (?P<time>\S+) (?P<host>\S{1,255}) (?P<app>[!-~]{1,48}) (?P<process>[!-~]{1,128}) "
    rb'(?P<id>[!-~]{1,32}) \[(?P<sd>[!-~]+?)(?P<data>( \w+="(\\.|[^"\\\]])*")*)\] (?P<text>.*)',
    re.DOTALL,
)
PAIR = re.compile(r' (\w+)="((?:\\.|[^"\\\]])*)"')


@dataclass
class Message:
    """A message as RFC 5424 has it."""

    raw: bytes

    def __post_init__(self) -> None:
        found = MESSAGE.fullmatch(self.raw)
        assert found, self.raw
        self.priority = int(found["priority"])
        self.time, self.host, self.app = found["time"].decode(), found["host"].decode(), found["app"].decode()
        self.process, self.id, self.sd = found["process"].decode(), found["id"].decode(), found["sd"].decode()
        self.data = {name: re.sub(r"\\(.)", r"\1", value) for name, value in PAIR.findall(found["data"].decode())}
        self.text: bytes = found["text"]


class Receiver:
    """A syslog server. Subclasses say how messages come in."""

    transport = ""

    def __init__(self) -> None:
        self.raw: list[bytes] = []
        self.port = 0

    @property
    def messages(self) -> list[Message]:
        return [Message(raw) for raw in list(self.raw)]

    @property
    def texts(self) -> list[bytes]:
        return [message.text for message in self.messages]

    def logging(self, **more: Any) -> dict[str, Any]:
        """What a spec says to have its output sent here."""
        return {"syslog": {"host": "127.0.0.1", "port": self.port, "transport": self.transport}, **more}


class Udp(Receiver):
    """By UDP."""

    transport = "udp"

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port(kind=socket.SOCK_DGRAM)  # nobody else is given it while this one does not listen
        self._socket: socket.socket | None = None
        self.open()

    def open(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self._socket.bind(("127.0.0.1", self.port))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._receive, args=(self._socket,), daemon=True)
        self._thread.start()

    def _receive(self, server: socket.socket) -> None:
        while data := server.recv(65536):
            self.raw.append(data)

    def close(self) -> None:
        if self._socket is None:
            return
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self._socket.getsockname())
        self._thread.join(60)
        self._socket.close()  # and only now nobody is there: what came before would be lost
        self._socket = None


class Tcp(Receiver):
    """By TCP, and by TLS where there is a context for it. ``reads``: what comes is taken."""

    transport = "tcp"

    def __init__(self, context: ssl.SSLContext | None = None, *, reads: bool = True) -> None:
        super().__init__()
        self.port = free_port()
        self._context = context
        self._reads = reads
        if context is not None:
            self.transport = "tls"
        #: all connections there have been
        self.connections: list[socket.socket] = []
        self._servers: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self.open()

    def open(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._acceptor.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                poll = select.poll()
                poll.register(listener, select.POLLIN)
                poll.poll()
                connection, _address = listener.accept()
            except (OSError, ValueError):
                return  # it has been closed
            if self._context is None:
                self.connections.append(connection)
            server = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._servers.append(server)
            server.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
                self.connections.append(connection)
        except OSError:
            connection.close()
            return
        if self._reads:
            self.read(connection)

    def read(self, connection: socket.socket) -> bytes:
        """Take messages to the end of a connection; returns what is left of one that has not come whole."""
        held = b""
        try:
            while data := connection.recv(65536):
                held = self._take(held + data)
        except OSError:
            pass
        return held

    def _take(self, held: bytes) -> bytes:
        while (found := re.match(rb"(\d+) ", held)) and len(held) >= found.end() + int(found[1]):
            end = found.end() + int(found[1])
            self.raw.append(held[found.end() : end])
            held = held[end:]
        return held

    def die(self) -> None:
        """As if the server were killed: connections are reset, and nobody listens."""
        self._stop_listening()
        for connection in self.connections:
            try:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RD)  # for the thread that reads from it, which holds it open
            except OSError:
                pass
        for server in self._servers:
            server.join(60)
        for connection in self.connections:
            connection.close()

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._acceptor.join(60)  # every connection has a thread by then, and that has begun
            self._listener.close()
            self._listener = None

    def close(self) -> None:
        self.die()


Make = Callable[..., Any]


@pytest.fixture
def receiver() -> Iterator[Make]:
    """A function that makes receivers: Udp, Tcp with its arguments; all are closed."""
    made: list[Udp | Tcp] = []

    def make(kind: type, *arguments: Any, **options: Any) -> Any:
        made.append(kind(*arguments, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


# -- certificates


@dataclass
class Authority:
    """An authority of our own, and servers with certificates of it."""

    directory: Path

    @property
    def file(self) -> str:
        return str(self.directory / "ca.pem")

    def server(self, name: str) -> ssl.SSLContext:
        """A server whose certificate is for this name, as a subjectAltName has it: `IP:127.0.0.1`."""
        key, request, certificate = (self.directory / f"server{suffix}" for suffix in (".key", ".csr", ".pem"))
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", request, "-subj", "/CN=server")
        (self.directory / "names").write_text(f"subjectAltName={name}\n")
        signed = ["-CA", self.file, "-CAkey", self.directory / "ca.key", "-CAcreateserial", "-extfile", self.directory / "names"]
        _openssl("x509", "-req", "-in", request, *signed, "-days", "2", "-out", certificate)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that nobody trusts unless told to."""
    directory = tmp_path_factory.mktemp("authority")
    new = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=authority"]
    _openssl("req", *new, "-keyout", directory / "ca.key", "-out", directory / "ca.pem")
    return Authority(directory)


def _openssl(*arguments: Any) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=60)


# -- the real ones


@dataclass
class Rsyslog:
    """A real rsyslogd, which writes what it has understood as lines of JSON."""

    file: Path
    udp: int
    tcp: int

    @property
    def messages(self) -> list[dict[str, Any]]:
        if not self.file.exists():
            return []
        return [json.loads(line) for line in self.file.read_text().splitlines(keepends=True) if line.endswith("\n")]


RSYSLOG = """
module(load="imudp")
module(load="imtcp")
global(workDirectory="{directory}" maxMessageSize="64k")
template(name="all" type="list" option.jsonf="on") {{
    property(outname="app" name="app-name" format="jsonf")
    property(outname="process" name="procid" format="jsonf")
    property(outname="id" name="msgid" format="jsonf")
    property(outname="severity" name="syslogseverity-text" format="jsonf")
    property(outname="facility" name="syslogfacility-text" format="jsonf")
    property(outname="data" name="structured-data" format="jsonf")
    property(outname="text" name="msg" format="jsonf")
}}
input(type="imudp" address="127.0.0.1" port="{udp}")
input(type="imtcp" address="127.0.0.1" port="{tcp}")
action(type="omfile" file="{directory}/messages" template="all")
"""


@pytest.fixture
def rsyslog(tmp_path: Path) -> Iterator[Rsyslog]:
    """A real rsyslogd on ports of its own."""
    directory = tmp_path / "rsyslog"
    directory.mkdir()
    ports = (free_port(kind=kind) for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM))
    server = Rsyslog(directory / "messages", *ports)
    (directory / "conf").write_text(RSYSLOG.format(directory=directory, udp=server.udp, tcp=server.tcp))
    command = ["/usr/sbin/rsyslogd", "-n", "-f", str(directory / "conf"), "-i", str(directory / "pid")]
    with open(directory / "log", "wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield server
    finally:
        process.kill()
        process.wait()


class Journald:
    """A real journald, in a mount namespace with directories of its own; ``inside`` runs a command there."""

    def __init__(self, directory: Path) -> None:
        name = f"test{os.getpid()}"
        machine = Path("/etc/machine-id").read_text().strip()
        self._entries = f"/var/log/journal/{machine}.{name}"
        script = f"""
            set -e
            mount -t tmpfs tmpfs /run
            mount -t tmpfs tmpfs /var/log
            mkdir -p /run/systemd/journal.{name} /run/systemd/journal
            mount --bind /run/systemd/journal.{name} /run/systemd/journal
            exec /lib/systemd/systemd-journald {name}
        """
        with open(directory / "journald.log", "wb") as log:
            self.process = subprocess.Popen(
                ["unshare", "--mount", "sh", "-c", script], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def inside(self) -> tuple[str, ...]:
        return ("nsenter", "--target", str(self.process.pid), "--mount")

    @property
    def ready(self) -> bool:
        assert self.process.poll() is None
        return os.path.exists(f"/proc/{self.process.pid}/root/run/systemd/journal/socket")

    def entries(self, task_id: str) -> list[dict[str, Any]]:
        """Those of a task, oldest first."""
        command = [*self.inside, "journalctl", "-D", self._entries, "-o", "json", "--all", f"TASK_RUNNER_TASK_ID={task_id}"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        return [json.loads(line) for line in shown.stdout.splitlines()]

    def close(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def journald(tmp_path: Path) -> Iterator[Journald]:
    server = Journald(tmp_path)
    yield server
    server.close()
