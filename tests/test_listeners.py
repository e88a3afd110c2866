"""Addresses of their own for dialects: what is served there, what is not, and what is refused at start."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from conftest import wait_for
from ports import free_port
from served import GUNICORN, SERVE, Served, refusal

from task_runner.api import binds
from task_runner.api.listener import Listener
from task_runner.errors import Refused, UnsafeBind
from task_runner.service.settings import Settings, load

DIALECTS = ["drove", "executor", "i3d"]
DROVE, I3D = "/apis/v1/ping", "/v3/applicationInstance/task"


@pytest.fixture
def make_served() -> Iterator[Callable[[], Served]]:
    made: list[Served] = []

    def make() -> Served:
        made.append(Served())
        return made[-1]

    yield make
    for each in made:
        each.close()


# -- one daemon with an address of each kind


@pytest.fixture(scope="module")
def house() -> Iterator[Served]:
    """/v1 and i3d on a port, drove on one of its own by IPv6, the executor on a Unix socket, where everybody may come."""
    served = Served()
    try:
        main, drove = free_port(), free_port("::1")
        served.start(
            *SERVE, "--bind", f"127.0.0.1:{main}", "--dialect", "i3d",
            dialects=["drove", "executor"],
            dialect_binds={"drove": f"[::1]:{drove}", "executor": f"unix:{served.directory}/executor.sock"},
            executor_auth="none",
            allowed_hosts=["sandbox-0.sandboxes.svc.cluster.local"],
        )  # fmt: skip
        yield served
        assert "Traceback" not in served.log
    finally:
        served.close()


@pytest.fixture
def main(house: Served) -> httpx.Client:
    return house.at(house.url.removeprefix("http://"))


@pytest.fixture
def drove(house: Served) -> httpx.Client:
    (line,) = [line for line in house.log.splitlines() if "Listening at" in line]
    return house.at("[::1]:" + line.rpartition("[::1]:")[2].partition(" ")[0].partition(",")[0])


@pytest.fixture
def executor(house: Served) -> httpx.Client:
    return house.at(f"unix:{house.directory}/executor.sock")


def test_a_dialect_is_served_alone_on_its_own_address(house: Served, drove: httpx.Client):
    assert drove.get(DROVE, headers=house.token).status_code == 200
    for path in ("/v1/tasks", "/v1/node", "/ready", "/metrics", I3D, "/getTasks", "/"):
        answer = drove.get(path, headers=house.token)
        assert answer.status_code == 404, path
        assert set(answer.json()) == {"status", "message"} | ({"data"} & set(answer.json()))  # Drove's own form


def test_the_main_address_does_not_serve_it(house: Served, main: httpx.Client):
    for path in (DROVE, "/getTasks", "/tasks", "/setTasks"):
        answer = main.get(path, headers=house.token)
        assert answer.status_code == 404, path
        assert answer.headers["content-type"] == "application/problem+json"
    assert main.get("/v1/tasks", headers=house.token).json() == []


def test_a_dialect_without_an_address_of_its_own_is_on_the_main_one(house: Served, main: httpx.Client):
    answer = main.get(I3D, headers={"PRIVATE-TOKEN": house.token["Authorization"].split()[1]})
    assert answer.status_code == 200


def test_a_token_is_needed_on_every_address_but_the_open_one(house: Served, main: httpx.Client, drove: httpx.Client, executor: httpx.Client):
    assert drove.get(DROVE).status_code == 401
    assert main.get("/v1/tasks").status_code == 401
    assert executor.get("/getTasks").status_code == 200


def test_who_needs_no_token_for_the_executor_gets_nothing_else(house: Served, executor: httpx.Client):
    made = executor.post("/tasks", json={"name": "open", "process": {"command": ["true"]}})
    assert made.status_code == 201, made.text
    for path in ("/v1/tasks", "/ready", "/metrics", DROVE, I3D, "/"):
        answer = executor.get(path)
        assert answer.status_code == 404, path
        assert not answer.headers["content-type"].startswith("application/problem+json")
    assert executor.delete("/tasks/open").status_code == 204
    wait_for(lambda: executor.get("/getTasks").json() == [], "it is gone")


def test_its_tasks_are_those_of_everybody(house: Served, main: httpx.Client, executor: httpx.Client):
    executor.post("/tasks", json={"name": "seen", "process": {"command": ["true"]}})
    (task,) = main.get("/v1/tasks", headers=house.token).json()
    assert (task["alias"], task["origin"]) == ("executor:seen", "executor")
    executor.delete("/tasks/seen")
    wait_for(lambda: executor.get("/getTasks").json() == [], "it is gone")


def test_clients_on_this_machine_are_told_the_main_address(house: Served):
    assert house.url.startswith("http://127.0.0.1:")
    assert house.at(house.url.removeprefix("http://")).get("/v1/tasks", headers=house.token).status_code == 200


@pytest.mark.parametrize("host", ["10.1.2.3:5758", "[fd00::7]:5758", "localhost", "sandbox-0.sandboxes.svc.cluster.local:5758"])
def test_a_dialect_is_reached_by_address_and_by_names_that_are_allowed(house: Served, drove: httpx.Client, host: str):
    assert drove.get(DROVE, headers={**house.token, "Host": host}).status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "sandbox-1.sandboxes.svc.cluster.local"])
def test_another_name_is_answered_in_the_dialects_form(house: Served, drove: httpx.Client, host: str):
    answer = drove.get(DROVE, headers={**house.token, "Host": host})
    assert answer.status_code == 421
    assert (answer.json()["status"], "allowed_hosts" in answer.json()["message"]) == ("FAILED", True)


def test_a_unix_socket_is_for_the_daemons_user_alone(house: Served):
    assert os.stat(house.directory / "executor.sock").st_mode & 0o077 == 0


# -- started in other ways


def test_without_serve_the_address_is_one_more_bind(make_served: Callable[[], Served]):
    served, own, main = make_served(), free_port(), free_port()
    settings = {"dialects": ["executor"], "dialect_binds": {"executor": f"0.0.0.0:{own}"}, "executor_auth": "none"}
    served.start(*GUNICORN, "-b", f"0.0.0.0:{own}", "-b", f"127.0.0.1:{main}", **settings)
    assert served.at(f"127.0.0.1:{own}").get("/getTasks").json() == []
    assert served.at(f"127.0.0.1:{own}").get("/v1/tasks", headers=served.token).status_code == 404
    assert served.at(f"127.0.0.1:{main}").get("/v1/tasks").status_code == 401
    assert served.at(f"127.0.0.1:{main}").get("/getTasks", headers=served.token).status_code == 404
    assert served.url == f"http://127.0.0.1:{main}"
    assert "dialect_binds" not in served.log
    # again, after SIGKILL, and this time nobody listens there
    served.kill()
    served.start(*GUNICORN, "-b", f"127.0.0.1:{main}", **settings)
    (warning,) = [line for line in served.log.splitlines() if "dialect_binds.executor" in line]
    assert f"nothing listens on 0.0.0.0:{own}" in warning
    assert f"--bind 0.0.0.0:{own}" in warning


@pytest.mark.needs("systemd-socket-activate")
def test_sockets_of_systemd_are_told_apart_by_their_addresses(make_served: Callable[[], Served]):
    served, own = make_served(), free_port()
    main = f"{served.directory}/main.sock"
    activate = ["systemd-socket-activate", "-l", main, "-l", f"127.0.0.1:{own}"]
    served.start(
        *activate, *(f"--setenv={name}" for name in _VARIABLES), *SERVE, ready=False,
        dialects=["executor"], dialect_binds={"executor": f"127.0.0.1:{own}"}, executor_auth="none",
    )  # fmt: skip
    wait_for(lambda: _listens(own), "systemd listens: it begins with the other one")
    assert served.at(f"127.0.0.1:{own}").get("/getTasks").json() == []
    assert served.at(f"127.0.0.1:{own}").get("/v1/tasks", headers=served.token).status_code == 404
    assert served.at(f"unix:{main}").get("/v1/tasks", headers=served.token).json() == []
    assert served.at(f"unix:{main}").get("/v1/tasks").status_code == 401
    assert served.url == f"unix://{main}"


def _listens(port: int) -> bool:
    """Whether somebody does, as the kernel has it: to ask by a connection would start what waits there."""
    table = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return any(fields[1].endswith(f":{port:04X}") and fields[3] == "0A" for fields in table)


#: systemd-socket-activate hands on these alone
_VARIABLES = [
    "PYTHONPATH",
    *(f"TASK_RUNNER_{name.upper()}" for name in ("state_dir", "dialects", "dialect_binds", "executor_auth")),
]


# -- what is refused at start

WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"dialect_binds": {"drove": "8000"}}, "dialect_binds.drove", "HOST:PORT"),
    ({"dialect_binds": {"drove": "localhost"}}, "dialect_binds.drove", "HOST:PORT"),
    ({"dialect_binds": {"drove": "127.0.0.1:0"}}, "dialect_binds.drove", "from 1 to 65535"),
    ({"dialect_binds": {"drove": "127.0.0.1:65536"}}, "dialect_binds.drove", "from 1 to 65535"),
    ({"dialect_binds": {"drove": "::1:8000"}}, "dialect_binds.drove", "in brackets"),
    ({"dialect_binds": {"drove": "[::g]:8000"}}, "dialect_binds.drove", "neither an address nor a name"),
    ({"dialect_binds": {"drove": "999.1.1.1:8000"}}, "dialect_binds.drove", "neither an address nor a name"),
    ({"dialect_binds": {"drove": "http://127.0.0.1:80"}}, "dialect_binds.drove", "in brackets"),
    ({"dialect_binds": {"drove": "unix:here.sock"}}, "dialect_binds.drove", "unix:/run"),
    ({"dialect_binds": {"drove": "unix:/" + "x" * 107}}, "dialect_binds.drove", "107 bytes"),
    ({"dialect_binds": {"drove": "fd://3"}}, "dialect_binds.drove", "HOST:PORT"),
    ({"dialect_binds": {"drove": "127.0.0.1:9", "i3d": "0.0.0.0:9"}}, "dialect_binds.i3d", "dialect_binds.drove as well"),
    ({"dialect_binds": {"drove": "unix:/a", "i3d": "unix:///a"}}, "dialect_binds.i3d", "dialect_binds.drove as well"),
    ({"dialect_binds": {"drove": "127.0.0.1:8000"}}, "dialect_binds.drove", "--bind 127.0.0.1:8000"),
    ({"dialect_binds": {"drove": "[::]:8000"}}, "dialect_binds.drove", "--bind 127.0.0.1:8000"),
    ({"dialect_binds": {"tessia": "127.0.0.1:9"}}, "dialect_binds.tessia", "'drove', 'executor' or 'i3d'"),
    ({"dialects": ["tessia"]}, "dialects.0", "'drove', 'executor' or 'i3d'"),
    ({"dialects": ["executor"], "executor_auth": "none"}, "executor_auth = none", "set dialect_binds.executor"),
    ({"dialects": ["executor"], "dialect_binds": {"executor": "0.0.0.0:9"}}, "0.0.0.0:9", "executor_auth = none"),
    ({"dialect_binds": {"drove": "0.0.0.0:9"}}, "0.0.0.0:9", "plain_http"),
    (
        {"dialect_binds": {"drove": "0.0.0.0:9", "executor": "127.0.0.1:8"}, "executor_auth": "none"},
        "0.0.0.0:9",
        "plain_http",
    ),
]


def _start(settings: Settings) -> None:
    """What `serve` does before it starts anything."""
    binds.check_apart(["127.0.0.1:8000"], settings)
    binds.check(["127.0.0.1:8000", *(str(each) for each in binds.own(settings).values())], settings)


@pytest.mark.parametrize(("given", "name", "remedy"), WRONG)
def test_wrong_addresses_are_refused_with_the_setting_and_the_remedy(tmp_path: Path, given: dict[str, Any], name: str, remedy: str):
    with pytest.raises((Refused, UnsafeBind)) as refused:
        _start(load(**{"state_dir": str(tmp_path), "dialects": DIALECTS, **given}))
    assert name in str(refused.value)
    assert remedy in str(refused.value)


def test_serve_and_gunicorn_refuse_them_before_anything_is_there():
    wrong = {"dialects": ["drove"], "dialect_binds": {"drove": "nowhere"}}
    assert "settings: dialect_binds.drove: 'nowhere' must be HOST:PORT" in refusal(*SERVE, **wrong)
    assert "settings: dialect_binds.drove: 'nowhere' must be HOST:PORT" in refusal(*GUNICORN, "-b", "127.0.0.1:0", **wrong)


@pytest.mark.parametrize(
    "given",
    [
        {"dialect_binds": {"drove": "[::1]:9", "i3d": "127.0.0.1:9", "executor": "unix:/run/x"}},
        {"dialect_binds": {"executor": "0.0.0.0:9"}, "executor_auth": "none"},
        {"dialect_binds": {"executor": "[::]:9"}, "executor_auth": "none", "auth": "none"},
        {"dialect_binds": {"drove": "0.0.0.0:9"}, "plain_http": True},
        {"dialect_binds": {"drove": "127.0.0.1:8000"}, "dialects": ["i3d"]},  # it is not switched on
    ],
)
def test_addresses_that_are_right(tmp_path: Path, given: dict[str, Any]):
    _start(load(**{"state_dir": str(tmp_path), "dialects": DIALECTS, **given}))


def test_an_open_executor_opens_nothing_else(tmp_path: Path):
    settings = load(
        state_dir=str(tmp_path), dialects=["executor"], dialect_binds={"executor": "0.0.0.0:9"}, executor_auth="none"
    )
    for other in ("0.0.0.0:8000", "10.1.2.3:8000"):
        with pytest.raises(UnsafeBind, match="other machines"):
            binds.check(["0.0.0.0:9", other], settings)


def test_an_open_executor_on_loopback_opens_no_wider_address_of_its_port(tmp_path: Path):
    settings = load(
        state_dir=str(tmp_path), dialects=["executor"], dialect_binds={"executor": "127.0.0.1:9"}, executor_auth="none"
    )
    binds.check(["127.0.0.1:9"], settings)
    with pytest.raises(UnsafeBind, match="other machines"):
        binds.check(["0.0.0.0:9"], settings)


def test_an_address_of_a_dialect_that_is_off_is_warned_of(tmp_path: Path):
    settings = load(state_dir=str(tmp_path), dialect_binds={"drove": "127.0.0.1:9"})
    assert list(binds.unheard(["127.0.0.1:8000"], settings)) == [
        "dialect_binds.drove: 127.0.0.1:9 is not listened on, for dialects does not have drove"
    ]


@pytest.mark.parametrize(
    ("there", "wanted", "warned"),
    [
        ("0.0.0.0:9", "127.0.0.1:9", False), ("127.0.0.1:9", "0.0.0.0:9", False), ("127.0.0.1:8", "127.0.0.1:9", True),
        ("127.0.0.1:9", "[::1]:9", True), ("unix:/a", "unix:/a", False), ("unix:/a", "unix:/b", True),
    ],
)  # fmt: skip
def test_who_is_warned_that_nobody_listens(tmp_path: Path, there: str, wanted: str, warned: bool):
    settings = load(state_dir=str(tmp_path), dialects=["drove"], dialect_binds={"drove": wanted})
    assert bool(list(binds.unheard([there], settings))) is warned


def test_clients_are_never_told_an_address_of_a_dialect(tmp_path: Path):
    binds_of = {"drove": "127.0.0.1:9", "executor": "unix:/run/x"}
    settings = load(state_dir=str(tmp_path), dialects=["drove", "executor"], dialect_binds=binds_of)
    assert binds.url(["127.0.0.1:9", "unix:/run/x"], settings) is None
    assert binds.url(["127.0.0.1:9", "unix:/run/x", "unix:/run/y"], settings) == "unix:///run/y"
    assert binds.url(["0.0.0.0:9", "127.0.0.1:8"], settings) == "http://127.0.0.1:8"
    assert binds.url(["0.0.0.0:9"], settings) is None  # from here it is reached as 127.0.0.1:9


# -- which connections a listener hears


@pytest.mark.parametrize(
    ("address", "server", "hears"),
    [
        ("127.0.0.1:80", ("127.0.0.1", 80), True), ("127.0.0.1:80", ("127.0.0.1", 81), False),
        ("127.0.0.1:80", ("10.0.0.1", 80), False), ("0.0.0.0:80", ("10.0.0.1", 80), True), (":80", ("10.0.0.1", 80), True),
        ("[::]:80", ("::ffff:10.0.0.1", 80), True), ("[::1]:80", ("::1", 80), True), ("[::1]:80", ("127.0.0.1", 80), False),
        ("10.0.0.1:80", ("::ffff:10.0.0.1", 80), True), ("node.example:80", ("10.0.0.1", 80), True),
        ("unix:/run/x", ("/run/x", None), True), ("unix:///run//x", ("/run/x", None), True), ("unix:/run/x", ("/run/y", None), False),
        ("unix:/run/x", ("127.0.0.1", 80), False), ("127.0.0.1:80", ("/run/x", None), False), ("127.0.0.1:80", None, False),
        ("127.0.0.1:80", ("testserver", 80), False),
    ],
)  # fmt: skip
def test_which_connections_are_heard(address: str, server: tuple[str, int | None] | None, hears: bool):
    assert Listener.parse(address).hears(server) is hears


def test_a_relative_path_of_a_socket_is_the_same_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert Listener.parse(f"unix:{tmp_path}/s").hears(("s", None))


@pytest.mark.parametrize("address", ["127.0.0.1:80", "[fd00::1]:80", "0.0.0.0:80", "localhost:80", "unix:/run/x"])
def test_an_address_is_written_as_it_is_read(address: str):
    assert str(Listener.parse(address)) == address
