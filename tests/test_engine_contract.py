"""What every container engine does behind `Engine`: the same tests over each of them, really running."""

from __future__ import annotations

import os
import random
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, wait_for
from engines import Server
from engines_cri import cri_server  # noqa: F401  a fixture
from imageregistry import Registry
from images import BUSYBOX_IMAGE, busybox, busybox_layer

from task_runner.engines.base import Engine, Login, Order
from task_runner.engines.cgroupwatch import CgroupWatch
from task_runner.engines.find import open_engine
from task_runner.errors import EngineFailed
from task_runner.model.walls import Device, Mount, TaskLimits

pytestmark = pytest.mark.slow

ENGINES = [
    pytest.param("podman", marks=pytest.mark.needs("root", "podman", "runc", "busybox", "curl")),
    pytest.param("docker", marks=pytest.mark.needs("root", "dockerd", "docker", "containerd", "runc", "busybox", "curl")),
    pytest.param("cri", marks=pytest.mark.needs("root", "containerd", "runc", "busybox")),
]
ENTRYPOINT_IMAGE = "localhost/entrypoint:1"


@pytest.fixture(scope="module", params=ENGINES)
def server(request: pytest.FixtureRequest) -> Server:
    server: Server = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture
def engine(server: Server) -> Iterator[Engine]:
    engine = open_engine(None, server.sockets)
    yield engine
    engine.close()


class Bench:
    """Makes containers that are all removed, and finds them by a label of its own."""

    def __init__(self, engine: Engine, shared: Path) -> None:
        self.engine = engine
        self.shared = shared
        self.labels = {"test": uuid.uuid4().hex}

    def order(self, script: str | None = None, **more: Any) -> Order:
        """A shell script; /shared is a directory of the test."""
        given: dict[str, Any] = {
            "name": f"test-{uuid.uuid4().hex[:12]}",
            "image": BUSYBOX_IMAGE,
            "command": None if script is None else ["sh", "-c", script],
            "mounts": [Mount(source=str(self.shared), target="/shared")],
            "network": "host",
            "labels": self.labels,
            **more,
        }
        return Order(**given)

    def begin(self, script: str | None = None, **more: Any) -> str:
        container = self.engine.create(self.order(script, **more))
        self.engine.start(container)
        return container

    def run(self, script: str | None = None, **more: Any) -> tuple[int | None, bytes, bytes]:
        """Exit code, stdout and stderr."""
        container = self.begin(script, **more)
        out, err = read(self.engine, container)
        return self.engine.wait(container, PATIENCE).exit_code, out, err

    def wait_state(self, container: str, state: str) -> None:
        wait_for(lambda: self.engine.look(container).state == state, f"{container} is {state}")

    def wait_file(self, name: str) -> None:
        wait_for((self.shared / name).exists, f"the container has made {name}")


@pytest.fixture
def bench(engine: Engine, server: Server, tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(engine, tmp_path)
    yield bench
    again = open_engine(None, server.sockets)
    for each in again.find(bench.labels):
        again.remove(each.id)
    assert again.find(bench.labels) == []
    again.close()


def read(engine: Engine, container: str, skip: tuple[int, int] = (0, 0)) -> tuple[bytes, bytes]:
    parts: dict[int, list[bytes]] = {1: [], 2: []}
    for stream, data in engine.output(container, skip):
        parts[stream].append(data)
    return b"".join(parts[1]), b"".join(parts[2])


# -- output

AWKWARD = [
    bytes(range(256)) * 3,
    b"\n\n\r\n\na\n\n",
    b"\xff\xfe\n\xc3(\n\xc3\n",
    b"x" * 1_000_000 + b"\n",
    *(b"z" * size + b"\n" for size in (4096, 8192, 16383, 16384, 16385, 32768)),
    random.Random(1).randbytes(300_000),
]
ENDINGS = {
    "nothing, no newline": (b"", b"no newline"),
    "line as long as a buffer, invalid": (b"w" * 16384 + b"\n", b"\xc3"),
    "long line, long line without newline": (b"x" * 100_000 + b"\n", b"y" * 100_000),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_output_is_what_was_written_byte_for_byte(bench: Bench, ending: str) -> None:
    out, err = (b"".join(AWKWARD) * bool(last) + last for last in ENDINGS[ending])
    (bench.shared / "out").write_bytes(out)
    (bench.shared / "err").write_bytes(err)
    assert bench.run("cat /shared/out; cat /shared/err >&2") == (0, out, err)


def test_much_output_in_a_short_time_is_complete(bench: Bench) -> None:
    lines = b"".join(b"line %d\n" % number for number in range(30_000))
    (bench.shared / "out").write_bytes(lines + random.Random(2).randbytes(3_000_000))
    code, out, err = bench.run("cat /shared/out & cat /shared/out >&2; wait")
    assert code == 0
    assert out == err == (bench.shared / "out").read_bytes()


def test_output_goes_on_where_a_reader_stopped(bench: Bench) -> None:
    whole_out, whole_err = b"o" * 20_000 + b"\nshort\nno newline", b"e\n" * 3000
    (bench.shared / "out").write_bytes(whole_out)
    (bench.shared / "err").write_bytes(whole_err)
    container = bench.begin("cat /shared/out; cat /shared/err >&2")
    assert read(bench.engine, container) == (whole_out, whole_err)
    for out, err in ((0, 1), (1, 0), (16_384, 1), (20_000, 5999), (20_001, 6000), (len(whole_out), len(whole_err))):
        assert read(bench.engine, container, (out, err)) == (whole_out[out:], whole_err[err:])


def test_output_is_followed_while_it_is_written(bench: Bench) -> None:
    container = bench.begin("echo begun; until [ -e /shared/go ]; do sleep 0.1; done; echo on; exit 5")
    pairs = bench.engine.output(container, (0, 0))
    assert next(pairs) == (1, b"begun\n")
    (bench.shared / "go").touch()
    assert b"".join(data for _, data in pairs) == b"on\n"
    assert bench.engine.wait(container, PATIENCE).exit_code == 5


def test_the_order_of_the_two_streams_is_kept_where_they_are_written_apart(bench: Bench) -> None:
    read = "until [ -e /shared/{0} ]; do sleep 0.02; done;"
    script = f"echo o$i; {read.format('o$i')} echo e$i >&2; {read.format('e$i')}"
    container = bench.begin(f"for i in 1 2; do {script} done")
    said = []
    for _, data in bench.engine.output(container, (0, 0)):
        said.append(data)
        (bench.shared / data.decode().strip()).touch()
    assert said == [b"o1\n", b"e1\n", b"o2\n", b"e2\n"]
    if bench.engine.name != "cri":  # where each stream has a file of its own
        assert b"".join(data for _, data in bench.engine.output(container, (0, 0))) == b"".join(said)


# -- what is run

ENTRYPOINT_CASES = [
    (None, None, b"entry point args\n"),
    (None, ["a", "b c"], b"entry point a b c\n"),
    (None, [], b"entry point\n"),
    (["echo", "mine"], None, b"mine\n"),
    (["echo", "mine"], ["d"], b"mine d\n"),
]


@pytest.fixture(scope="module")
def entrypoint_image(server: Server, tmp_path_factory: pytest.TempPathFactory) -> str:
    image = busybox(entrypoint=["echo", "entry", "point"], command=["args"], env=["PATH=/bin", "FROM=image"])
    server.load(image.save(tmp_path_factory.mktemp("image") / "entrypoint.tar", ENTRYPOINT_IMAGE))
    return ENTRYPOINT_IMAGE


def test_command_and_args_stand_in_for_those_of_the_image(bench: Bench, entrypoint_image: str) -> None:
    for command, args, said in ENTRYPOINT_CASES:
        assert bench.run(image=entrypoint_image, command=command, args=args) == (0, said, b""), (command, args)


def test_a_container_has_the_environment_user_and_directory_that_were_asked_for(
    bench: Bench, entrypoint_image: str
) -> None:
    env = {"MINE": "a=b 'c' \n d", "EMPTY": ""}
    code, out, _ = bench.run(
        'printf "%s|%s|%s|" "$FROM" "$MINE" "${EMPTY-unset}"; id -u; id -g; pwd',
        image=entrypoint_image,
        env=env,
        user="player",
        working_directory="/shared",
    )
    assert (code, out) == (0, b"image|a=b 'c' \n d||4321\n4321\n/shared\n")


def test_mounts_are_writable_or_not(bench: Bench) -> None:
    (bench.shared / "seen").write_text("here")
    mounts = [
        Mount(source=str(bench.shared), target="/shared"),
        Mount(source=str(bench.shared), target="/looked at", read_only=True),
    ]
    code, out, _ = bench.run("cat '/looked at/seen'; echo x > '/looked at/y' || echo > /shared/made", mounts=mounts)
    assert (code, out) == (0, b"here")
    assert (bench.shared / "made").exists()
    assert not (bench.shared / "y").exists()


def test_nothing_in_a_container_gains_privileges(bench: Bench) -> None:
    _, out, _ = bench.run("grep -E 'NoNewPrivs|CapBnd' /proc/self/status; ls /dev/loop-control")
    status = dict(line.split(":\t") for line in out.decode().splitlines())
    assert status["NoNewPrivs"] == "1"
    assert not int(status["CapBnd"], 16) & 1 << 21, "CAP_SYS_ADMIN: it is privileged"


def test_a_device_is_there_with_the_place_and_the_permissions_that_were_asked_for(bench: Bench) -> None:
    if not os.path.exists("/dev/loop-control"):
        pytest.skip("this machine has no device that containers do not have")
    shown = Device(path="/dev/loop-control", target="/dev/another", permissions="r")
    script = ": < /dev/another && echo read; (: > /dev/another) 2>&1 | grep -o 'not permitted'; ls /dev/loop-control || true"
    code, out, _ = bench.run(script, devices=[shown])
    assert (code, out) == (0, b"read\nnot permitted\n")
    assert bench.run("ls /dev/loop-control", devices=[Device(path="/dev/loop-control")])[:2] == (0, b"/dev/loop-control\n")


def test_network_none_has_nothing_but_itself(bench: Bench) -> None:
    if bench.engine.name == "cri":
        pytest.skip("the CRI has no such network: it refuses")
    _, out, _ = bench.run("cat /proc/net/dev", network="none")
    assert [line.split(":")[0].strip() for line in out.decode().splitlines() if ":" in line] == ["lo"]


# -- limits

LIMITS = TaskLimits(
    memory_mb=48, swap_mb=0, cpus=0.5, pids=30, open_files=77, core_mb=0, file_mb=1, nice=5, io_weight=50
)


def test_limits_are_enforced_or_said_not_to_be(bench: Bench) -> None:
    order = bench.order(
        "ulimit -n; ulimit -c; head -c 2000000 /dev/zero > /tmp/large; stat -c %s /tmp/large;"
        # one after the other: where the CRI has no limit of processes it comes right after the start
        "for i in $(seq 200); do sleep 20 & sleep 0.05; done; echo all",
        limits=LIMITS,
    )
    container = bench.engine.create(order)
    notes = {note.limit: note for note in bench.engine.notes(order)}
    bench.engine.start(container)
    out, err = read(bench.engine, container)
    asked = {"memoryMb": 48, "swapMb": 0, "cpus": 0.5, "pids": 30, "nice": 5, "ioWeight": 50}
    asked |= {"openFiles": 77, "coreMb": 0, "fileMb": 1}
    assert {name: note.asked for name, note in notes.items()} == asked
    assert all(note.by or note.note for note in notes.values())
    assert notes["nice"].by is None
    if notes["fileMb"].by:
        assert out.splitlines()[:3] == [b"77", b"0", b"1048576"]
    if notes["pids"].by:
        assert b"can't fork" in err


def test_a_container_without_limits_has_no_notes(bench: Bench) -> None:
    assert bench.engine.notes(bench.order("true")) == []


@pytest.mark.parametrize("script", ["exec tail /dev/zero", "tail /dev/zero; sleep 0.5; echo survived"])
def test_a_container_killed_for_lack_of_memory_is_known(bench: Bench, script: str) -> None:
    code, oom_killed, accounting = watched(bench, script, TaskLimits(memory_mb=16, swap_mb=0))
    assert code == (137 if "exec" in script else 0)
    assert oom_killed is True
    if accounting is not None:
        assert accounting.oom_kills == 1
        assert accounting.memory_peak_bytes == 16 * 2**20


def test_a_container_that_was_not_killed_for_lack_of_memory_is_known_too(bench: Bench) -> None:
    for _ in range(5):  # on a busy machine its groups are gone now and then before they are read: then it is not known
        code, oom_killed, accounting = watched(
            bench, "i=0; while [ $i -lt 40000 ]; do i=$((i+1)); done; kill -9 $$", TaskLimits(memory_mb=64, cpus=0.05)
        )
        assert code in (0, 137)  # process 1 of a container does not hear its own SIGKILL
        assert not oom_killed
        if accounting is not None:
            break
    assert oom_killed is False
    assert accounting is not None
    assert accounting.cpu_seconds is not None and accounting.cpu_seconds > 0.05
    assert accounting.throttled_count
    assert accounting.throttled_seconds
    assert accounting.memory_peak_bytes


def watched(bench: Bench, script: str, limits: TaskLimits) -> tuple[int | None, bool | None, Any]:
    """How it ends, as the engine and the watch of its groups tell it together."""
    go = bench.shared / f"go-{uuid.uuid4().hex}"
    order = bench.order(f"until [ -e /shared/{go.name} ]; do sleep 0.05; done; {script}", limits=limits)
    container = bench.engine.create(order)
    watch = CgroupWatch.of(bench.engine.look(container).pid)
    bench.engine.start(container)
    if not watch.sees:
        watch = CgroupWatch.of(bench.engine.look(container).pid)
    go.touch()
    seen = bench.engine.wait(container, PATIENCE)
    kills = watch.oom_kills()
    return seen.exit_code, seen.oom_killed or (seen.oom_killed if kills is None else kills > 0), watch.accounting()


# -- its life


def test_an_engine_says_what_it_is(engine: Engine, server: Server) -> None:
    assert engine.name == server.name
    assert re.match(r"(Podman|Docker Engine|containerd) \d+\.\d+", engine.describe())
    engine.ping()


def test_images_are_known_by_an_id(bench: Bench) -> None:
    image = bench.engine.image_id(BUSYBOX_IMAGE)
    assert image is not None and image.startswith("sha256:")
    assert bench.engine.image_id("localhost/nobody-has-this:1") is None
    assert bench.engine.look(bench.engine.create(bench.order("true"))).image_id == image


def test_a_container_is_seen_from_its_making_to_its_removal(bench: Bench) -> None:
    engine = bench.engine
    container = engine.create(bench.order("until [ -e /shared/go ]; do sleep 0.1; done; exit 3"))
    assert engine.look(container).state == "created"
    assert engine.look(container).exit_code is None
    engine.start(container)
    seen = engine.wait(container, 0.3)
    assert (seen.state, seen.exit_code) == ("running", None)
    assert seen.pid is not None
    command_line = Path(f"/proc/{seen.pid}/cmdline")
    wait_for(lambda: b"/shared/go" in command_line.read_bytes(), "it is that process")
    timer = threading.Timer(0.3, (bench.shared / "go").touch)  # a wait that has begun ends with it
    timer.start()
    seen = engine.wait(container, PATIENCE)
    timer.join()
    assert (seen.state, seen.exit_code, seen.pid) == ("exited", 3, None)
    engine.remove(container)
    assert engine.look(container).state == "gone"
    assert engine.wait(container, PATIENCE).state == "gone"
    engine.remove(container)
    assert read(engine, container) == (b"", b"")


def test_containers_are_found_by_labels_in_every_state(bench: Bench) -> None:
    orders = [bench.order("sleep 1000", labels={**bench.labels, "number": str(number)}) for number in range(3)]
    made = [bench.engine.create(each) for each in orders]
    bench.engine.start(made[1])
    bench.engine.start(made[2])
    bench.engine.send(made[2], "SIGKILL")
    bench.wait_state(made[2], "exited")
    assert {(each.id, each.name) for each in bench.engine.find(bench.labels)} == {
        (container, order.name) for container, order in zip(made, orders, strict=True)
    }
    found = bench.engine.find({**bench.labels, "number": "1"})
    assert [(each.id, each.labels["number"]) for each in found] == [(made[1], "1")]
    assert bench.engine.find({**bench.labels, "number": "9"}) == []


def test_a_signal_reaches_the_main_process(bench: Bench) -> None:
    container = bench.begin("trap 'echo heard; exit 42' USR1; touch /shared/ready; while :; do sleep 0.1; done")
    bench.wait_file("ready")
    bench.engine.send(container, "SIGUSR1")
    assert bench.engine.wait(container, PATIENCE).exit_code == 42
    assert read(bench.engine, container) == (b"heard\n", b"")
    bench.engine.send(container, "SIGTERM")


def test_a_killed_container_has_ended_by_that(bench: Bench) -> None:
    container = bench.begin("sleep 1000")
    bench.engine.send(container, "SIGKILL")
    seen = bench.engine.wait(container, PATIENCE)
    assert (seen.state, seen.exit_code) == ("exited", 137)


def test_a_paused_container_stands_still_and_goes_on(bench: Bench) -> None:
    container = bench.begin("while :; do date +%s%N > /shared/beat; sleep 0.02; done")
    bench.wait_file("beat")
    bench.engine.pause(container)
    assert bench.engine.look(container).state == "paused"
    bench.engine.pause(container)
    beat = (bench.shared / "beat").read_bytes()
    time.sleep(0.2)
    assert (bench.shared / "beat").read_bytes() == beat
    bench.engine.resume(container)
    wait_for(lambda: (bench.shared / "beat").read_bytes() not in (beat, b""), "it goes on")
    assert bench.engine.look(container).state == "running"
    bench.engine.resume(container)


def test_a_paused_container_can_be_killed_and_removed(bench: Bench) -> None:
    killed, removed = bench.begin("sleep 1000"), bench.begin("sleep 1000")
    bench.engine.pause(killed)
    bench.engine.pause(removed)
    bench.engine.send(killed, "SIGKILL")
    assert bench.engine.wait(killed, PATIENCE).exit_code == 137
    bench.engine.remove(removed)
    assert bench.engine.look(removed).state == "gone"


def test_what_cannot_be_paused_says_so(bench: Bench) -> None:
    container = bench.engine.create(bench.order("true"))
    with pytest.raises(EngineFailed):
        bench.engine.pause(container)


def test_removing_a_running_container_leaves_nothing_of_it(bench: Bench) -> None:
    container = bench.begin("sleep 1000 & sleep 1000")
    pid = bench.engine.look(container).pid
    groups = Path(f"/proc/{pid}/cgroup").read_text()
    bench.engine.remove(container)
    wait_for(lambda: not Path(f"/proc/{pid}").exists(), "its processes have ended")
    assert container in groups
    wait_for(lambda: container not in Path("/proc/self/mountinfo").read_text(), "its mounts are undone")
    memory = re.search(r":memory:(.*)", groups)
    if memory:
        wait_for(lambda: not Path(f"/sys/fs/cgroup/memory{memory[1]}").exists(), "its group is gone")


def test_a_container_outlives_its_engine(bench: Bench, server: Server) -> None:
    script = "echo before; until [ -e /shared/{0} ]; do sleep 0.1; done; echo after; touch /shared/{0}-said; sleep 0.2;"
    stays = bench.begin(script.format("stays") + "until [ -e /shared/end ]; do sleep 0.1; done; exit 8")
    ends = bench.begin(script.format("ends") + "exit 9")
    pid = bench.engine.look(ends).pid
    for container in (stays, ends):
        assert next(bench.engine.output(container, (0, 0))) == (1, b"before\n")
    server.kill()
    try:
        with pytest.raises(EngineFailed):
            bench.engine.look(stays)
        with pytest.raises(EngineFailed):
            bench.engine.ping()
        for name in ("stays", "ends"):
            (bench.shared / name).touch()
            bench.wait_file(f"{name}-said")
        wait_for(lambda: not Path(f"/proc/{pid}").exists(), "one has ended while its engine was away")
    finally:
        server.start()
    (bench.shared / "end").touch()
    again = open_engine(None, server.sockets)
    assert [again.wait(container, PATIENCE).exit_code for container in (stays, ends)] == [8, 9]
    assert read(again, stays, (len("before\n"), 0)) == (b"after\n", b"")
    if server.name != "docker":  # which does not read any more what such a container has written last
        assert read(again, ends, (len("before\n"), 0)) == (b"after\n", b"")
    again.close()


# -- refusals


def test_a_program_that_is_not_there_is_named(bench: Bench) -> None:
    with pytest.raises(EngineFailed, match="/no/such/program"):
        bench.begin(command=["/no/such/program"])
    for each in bench.engine.find(bench.labels):
        assert bench.engine.look(each.id).state in ("created", "exited")


def test_an_image_that_is_not_there_is_named(bench: Bench) -> None:
    with pytest.raises(EngineFailed, match="nobody-has-this"):
        bench.engine.create(bench.order("true", image="localhost/nobody-has-this:1"))


def test_a_name_is_used_once(bench: Bench) -> None:
    order = bench.order("sleep 1000")
    first = bench.engine.create(order)
    with pytest.raises(EngineFailed):
        bench.engine.create(replace(order, labels=bench.labels))
    assert [each.id for each in bench.engine.find(bench.labels)] == [first]


def test_the_main_process_of_somebody_elses_container_is_found_by_name(bench: Bench) -> None:
    order = bench.order("exec sleep 1234")
    container = bench.engine.create(order)
    with pytest.raises(EngineFailed):
        bench.engine.main_pid(order.name)
    bench.engine.start(container)
    for name in (order.name, container):
        pid = bench.engine.main_pid(name)
        wait_for(lambda: b"1234" in Path(f"/proc/{pid}/cmdline").read_bytes(), "it is that process")  # noqa: B023
    with pytest.raises(EngineFailed, match="no-such-container"):
        bench.engine.main_pid("no-such-container")


# -- pulling

Told = list[tuple[str, float | None]]


@pytest.fixture
def pulled(engine: Engine, server: Server) -> Callable[..., tuple[str, Told]]:
    """Pulls an image; returns its id and what was told meanwhile."""

    def pull(image: str, login: Login | None = None) -> tuple[str, Told]:
        told: Told = []
        return engine.pull(image, login, lambda text, share: told.append((text, share))), told

    return pull


def test_an_image_is_pulled_and_its_progress_told(
    bench: Bench, make_registry: Callable[..., Registry], pulled: Callable[..., tuple[str, Told]]
) -> None:
    registry = make_registry()
    registry.pause = 0.01
    image = registry.add("made", "1", busybox(layer=busybox_layer(os.urandom(3_000_000)), command=["echo", "pulled"]))
    assert bench.engine.image_id(image) is None
    image_id, told = pulled(image)
    assert bench.engine.image_id(image) == image_id
    shares = [share for _, share in told if share is not None]
    assert shares == sorted(shares)
    assert all(0 <= share <= 1 for share in shares)
    assert any(text for text, _ in told)
    assert bench.run(image=image) == (0, b"pulled\n", b"")


def test_an_image_behind_a_password_is_pulled_with_it(
    bench: Bench, make_registry: Callable[..., Registry], pulled: Callable[..., tuple[str, Told]]
) -> None:
    registry = make_registry(("player", "s3cret"))
    image = registry.add("private", "1", busybox(layer=busybox_layer(os.urandom(10))))
    for login in (None, Login(username="player", password="wrong")):
        with pytest.raises(EngineFailed) as caught:
            pulled(image, login)
        assert "wrong" not in str(caught.value)
        assert re.search("(?i)unauthorized|authorization|authentication|401|credentials", str(caught.value))
        assert bench.engine.image_id(image) is None
    assert pulled(image, Login(username="player", password="s3cret"))[0] == bench.engine.image_id(image)


def test_why_an_image_cannot_be_pulled_is_told_in_the_engines_words(
    make_registry: Callable[..., Registry], pulled: Callable[..., tuple[str, Told]]
) -> None:
    with pytest.raises(EngineFailed, match=r"manifest|not found|no such"):
        pulled(f"127.0.0.1:{make_registry().server_port}/nothing:1")
    with pytest.raises(EngineFailed, match=r"refused|connect"):
        pulled("127.0.0.1:1/nothing:1")  # nobody is given that port
