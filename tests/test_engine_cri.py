"""containerd over the CRI: what is its own, beside what every engine does (test_engine_contract.py)."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE, wait_for
from engines_cri import CriServer
from images import BUSYBOX_IMAGE

from task_runner.engines import crioutput, filewatch, outputfiles
from task_runner.engines.base import Order
from task_runner.engines.cri import CriEngine
from task_runner.errors import EngineFailed
from task_runner.model.walls import Device, Mount, TaskLimits

pytestmark = [pytest.mark.needs("root", "containerd", "runc", "busybox"), pytest.mark.usefixtures("left")]


@pytest.fixture
def engine(cri_server: CriServer) -> Iterator[CriEngine]:
    engine = CriEngine(str(cri_server.socket))
    yield engine
    engine.close()


@pytest.fixture
def left(engine: CriEngine) -> Iterator[None]:
    """Whatever a test makes is removed, and then nothing is left of it."""
    yield
    for each in engine.find({}):
        engine.remove(each.id)
    assert engine.find({}) == []
    assert kept(engine) == []


def kept(engine: CriEngine) -> list[str]:
    return engine._outputs.names()


def order(*command: str, **more: Any) -> Order:
    name = f"test-{uuid.uuid4().hex[:12]}"
    given = {"network": "host", "labels": {"task-runner.task": name}, **more}
    return Order(name=name, image=BUSYBOX_IMAGE, command=list(command) or None, **given)


def shell(script: str, **more: Any) -> Order:
    return order("sh", "-c", script, **more)


def begin(engine: CriEngine, what: Order) -> str:
    container = engine.create(what)
    engine.start(container)
    return container


def outcome(engine: CriEngine, what: Order) -> tuple[int | None, str]:
    """Exit code and standard output of a container."""
    container = begin(engine, what)
    out, _ = streams(engine.output(container, (0, 0)))
    return engine.wait(container, PATIENCE).exit_code, out.decode()


def streams(pairs: Iterator[tuple[int, bytes]]) -> tuple[bytes, bytes]:
    read = {1: b"", 2: b""}
    for stream, data in pairs:
        read[stream] += data
    return read[1], read[2]


# -- following files


def make_files(directory: Path) -> tuple[Path, Path]:
    out, err = directory / "stdout", directory / "stderr"
    out.touch()
    err.touch()
    return out, err


def test_output_is_followed_in_the_order_in_which_it_is_written(tmp_path: Path) -> None:
    out, err = make_files(tmp_path)
    over = threading.Event()
    pairs = outputfiles.follow(str(tmp_path), (0, 0), over.is_set, outputfiles.KEEP)
    said = []
    with open(out, "ab", buffering=0) as first, open(err, "ab", buffering=0) as second:
        for number in range(20):
            (first, second)[number % 3 == 0].write(b"%d." % number)
            said.append(next(pairs))
    over.set()
    assert said == [(2 if number % 3 == 0 else 1, b"%d." % number) for number in range(20)]
    assert list(pairs) == []


@pytest.mark.parametrize("watches", ["some", "no more"])
def test_all_output_of_a_fast_writer_is_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watches: str) -> None:
    if watches == "no more":
        monkeypatch.setattr(filewatch._libc, "inotify_init1", lambda _: -1)
    out, _ = make_files(tmp_path)
    lines = [b"%d\n" % number for number in range(20_000)]
    over = threading.Event()

    def write() -> None:
        with open(out, "ab", buffering=0) as file:
            file.writelines(lines)
        over.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert streams(outputfiles.follow(str(tmp_path), (0, 0), over.is_set, outputfiles.KEEP)) == (b"".join(lines), b"")
    writer.join()


def test_what_is_written_after_the_end_is_read_too(tmp_path: Path) -> None:
    out, _ = make_files(tmp_path)
    with open(out, "wb", buffering=0) as file:
        file.write(b"first")
        pairs = outputfiles.follow(str(tmp_path), (0, 0), lambda: True, outputfiles.KEEP)
        assert next(pairs) == (1, b"first")
        closing = threading.Timer(0.2, lambda: (file.write(b"last"), file.close()))
        closing.start()
        assert list(pairs) == [(1, b"last")]
        closing.join()


def test_output_that_has_been_read_is_freed_and_can_be_read_on(tmp_path: Path) -> None:
    out, err = make_files(tmp_path)
    whole = b"".join(b"%09d\n" % number for number in range(1_000_000))
    out.write_bytes(whole)
    err.write_bytes(b"end")
    keep = 1 << 20
    assert streams(outputfiles.follow(str(tmp_path), (0, 0), lambda: True, keep)) == (whole, b"end")
    assert out.stat().st_blocks * 512 < 3 * keep < out.stat().st_size == len(whole)
    have = len(whole) - 12_345
    assert streams(outputfiles.follow(str(tmp_path), (have, 2), lambda: True, keep)) == (whole[have:], b"d")
    with pytest.raises(EngineFailed, match="bytes of the container's stdout are not there any more"):
        list(outputfiles.follow(str(tmp_path), (5, 0), lambda: True, keep))


# -- output of real containers


def test_output_is_byte_for_byte(engine: CriEngine, tmp_path: Path) -> None:
    out = bytes(range(256)) * 3000 + b"x" * 50_000 + b"\n\n\r\n\r.\0\xff\r\n no newline"
    err = b"\xfe\0" * 20_000 + b"\n" + b"e" * 16_384
    (tmp_path / "out").write_bytes(out)
    (tmp_path / "err").write_bytes(err)
    mounts = [Mount(source=str(tmp_path), target="/in", read_only=True)]
    container = begin(engine, shell("cat /in/out & cat /in/err >&2; wait", mounts=mounts))
    read = streams(engine.output(container, (0, 0)))
    assert read == (out, err)
    assert streams(engine.output(container, (1000, 70_000))) == (out[1000:], err[70_000:])
    assert streams(engine.output(container, (len(out), len(err)))) == (b"", b"")


def test_output_is_followed_while_it_is_written(engine: CriEngine, tmp_path: Path) -> None:
    what = shell("echo first; until [ -e /in/go ]; do sleep 0.1; done; echo last >&2", mounts=mount(tmp_path))
    container = engine.create(what)
    pairs: list[tuple[int, bytes]] = []
    reader = threading.Thread(target=lambda: pairs.extend(engine.output(container, (0, 0))))
    reader.start()
    engine.start(container)
    reader_of_its_own = engine.output(container, (0, 0))
    assert next(reader_of_its_own) == (1, b"first\n")
    assert engine.look(container).state == "running"
    (tmp_path / "go").touch()
    assert list(reader_of_its_own) == [(2, b"last\n")]
    reader.join(PATIENCE)
    assert pairs == [(1, b"first\n"), (2, b"last\n")]


def mount(path: Path) -> list[Mount]:
    return [Mount(source=str(path), target="/in")]


def test_a_long_output_does_not_stay_on_the_disk(engine: CriEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outputfiles, "KEEP", 1 << 18)
    container = begin(engine, shell("seq 1 1000000"))
    out, _ = streams(engine.output(container, (0, 0)))
    assert out == b"".join(b"%d\n" % number for number in range(1, 1_000_001))
    [name] = kept(engine)
    file = os.stat(f"{engine._outputs.path(name)}/stdout")
    assert file.st_blocks * 512 < 1 << 20 < file.st_size == len(out)


# -- a containerd that goes away


def test_a_container_outlives_its_engine_and_is_found_again(
    cri_server: CriServer,
    tmp_path: Path,
) -> None:
    first = CriEngine(str(cri_server.socket))
    what = shell("echo one; until [ -e /in/go ]; do sleep 0.1; done; echo two; exit 5", mounts=mount(tmp_path))
    container = begin(first, what)
    assert next(first.output(container, (0, 0))) == (1, b"one\n")
    cri_server.kill()
    try:
        with pytest.raises(EngineFailed, match="does not answer"):
            first.look(container)
    finally:
        cri_server.start()
    assert wait_for(lambda: answer(first, container), "the same connection answers again").state == "running"
    second = CriEngine(str(cri_server.socket))
    assert [each.id for each in second.find(what.labels)] == [container]
    (tmp_path / "go").touch()
    assert streams(second.output(container, (2, 0))) == (b"e\ntwo\n", b"")
    assert second.wait(container, PATIENCE).exit_code == 5
    first.close()
    second.close()


def answer(engine: CriEngine, container: str) -> Any:
    try:
        return engine.look(container)
    except EngineFailed:
        return None


def test_what_ended_with_its_shim_while_the_engine_was_away_has_no_exit_code(
    cri_server: CriServer,
    engine: CriEngine,
) -> None:
    container = begin(engine, order("sleep", "1000"))
    pid = engine.look(container).pid
    assert pid is not None
    cri_server.kill()
    try:
        cri_server.kill_shims()
        kill(pid)
    finally:
        cri_server.start()
    seen = wait_for(lambda: answer(engine, container), "the engine answers again")
    assert (seen.state, seen.exit_code, seen.oom_killed) == ("exited", None, None)
    assert "lost" in seen.error


def kill(pid: int) -> None:
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    select.select([pidfd], [], [], PATIENCE)
    os.close(pidfd)


# -- limits


def test_limits_are_those_of_the_container(engine: CriEngine) -> None:
    limits = TaskLimits(memory_mb=32, swap_mb=16, cpus=0.5, pids=20)
    files = {"memory/memory.limit_in_bytes": 32 << 20, "cpu/cpu.cfs_quota_us": 50_000, "pids/pids.max": 20}
    files["memory/memory.memsw.limit_in_bytes"] = 48 << 20
    if not all(Path(f"/sys/fs/cgroup/{each}").exists() for each in files if "pids" not in each):
        pytest.skip("cgroup v1 with memory, swap and cpu is what this test reads")
    script = "until [ $(cat /sys/fs/cgroup/pids/pids.max) = 20 ]; do sleep 0.01; done; "
    code, out = outcome(
        engine, shell(script + "".join(f"cat /sys/fs/cgroup/{each}; " for each in files), limits=limits)
    )
    assert (code, [int(each) for each in out.split()]) == (0, list(files.values()))


def test_processes_beyond_the_limit_are_refused(engine: CriEngine, tmp_path: Path) -> None:
    what = shell(
        "until [ -e /in/go ]; do sleep 0.1; done; for i in 1 2 3 4 5 6 7 8 9 10; do sleep 30 & done; wait",
        limits=TaskLimits(pids=6),
        mounts=mount(tmp_path),
    )
    container = begin(engine, what)
    (tmp_path / "go").touch()
    _, err = streams(engine.output(container, (0, 0)))
    assert b"can't fork" in err
    assert [note.by for note in engine.notes(what)][0] in ("cgroup v1", "cgroup v2")


def test_it_is_told_that_memory_was_missing(engine: CriEngine) -> None:
    told = []
    for _ in range(5):  # on a busy machine containerd misses one now and then: then it is not known, and never denied
        container = begin(engine, order("tail", "/dev/zero", limits=TaskLimits(memory_mb=8)))
        seen = engine.wait(container, PATIENCE)
        assert (seen.state, seen.exit_code) == ("exited", 137)
        told.append(seen.oom_killed)
        if seen.oom_killed:
            break
    assert told[-1] is True, told
    assert False not in told


def test_what_the_cri_cannot_limit_is_said(engine: CriEngine) -> None:
    limits = TaskLimits(memory_mb=8, open_files=10, core_mb=0, file_mb=1, nice=5, io_weight=50)
    notes = {note.limit: note for note in engine.notes(order("true", limits=limits))}
    assert notes["memoryMb"].by == "cri"
    for name in ("openFiles", "coreMb", "fileMb", "nice", "ioWeight"):
        assert notes[name].by is None
        assert notes[name].note
    [swap] = engine.notes(order("true", limits=TaskLimits(swap_mb=5)))
    assert swap.by is None


# -- what it sees


@pytest.mark.parametrize(
    ("user", "ids"), [("nobody", "65534:65534"), ("player:0", "4321:0"), ("77:88", "77:88"), ("0:player", "0:4321")]
)
def test_it_runs_as_the_user_that_was_asked_for(engine: CriEngine, user: str, ids: str) -> None:
    assert outcome(engine, shell("echo $(id -u):$(id -g)", user=user)) == (0, f"{ids}\n")


def test_it_can_gain_no_privileges_and_change_nothing_of_the_kernel(engine: CriEngine) -> None:
    script = "grep -E '^(NoNewPrivs|Seccomp):' /proc/self/status; echo x > /proc/sys/kernel/hostname || echo no; mount"
    _, out = outcome(engine, shell(script))
    assert "NoNewPrivs:\t1" in out
    assert "Seccomp:\t2" in out
    assert "\nno\n" in out
    assert "proc on /proc/sysrq-trigger type proc (ro" in out or not os.path.exists("/proc/sysrq-trigger")
    assert " on /sys/firmware type tmpfs (ro" in out or not os.path.exists("/sys/firmware")


def test_a_device_of_this_machine_can_be_used(engine: CriEngine, tmp_path: Path) -> None:
    device = str(tmp_path / "null")
    os.mknod(device, 0o20666, os.makedev(1, 3))
    assert outcome(engine, shell(f"[ -c {device} ] && echo x > {device} && echo ok", devices=[Device(path=device)])) == (0, "ok\n")


def test_a_mount_that_is_not_there_is_refused_and_not_made(engine: CriEngine, tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    with pytest.raises(EngineFailed, match="does not exist"):
        engine.create(order("true", mounts=mount(missing)))
    assert not missing.exists()


# -- networks


def test_without_cni_there_is_only_the_network_of_the_host(engine: CriEngine) -> None:
    with pytest.raises(EngineFailed, match=r"has no network but `host`: .*configure CNI"):
        engine.create(order("true", network="bridge"))
    assert engine.find({}) == []


def test_a_container_without_network_is_refused(engine: CriEngine) -> None:
    with pytest.raises(EngineFailed, match="the CRI has no network 'none'"):
        engine.create(order("true", network="none"))


def test_bridge_is_the_network_of_cni(cri_server: CriServer, engine: CriEngine) -> None:
    if not Path("/usr/lib/cni/bridge").exists():
        pytest.skip("needs containernetworking-plugins")
    link = f"tr{uuid.uuid4().hex[:8]}"
    ipam = {"type": "host-local", "subnet": "10.213.7.0/24", "dataDir": str(cri_server.directory / "ipam")}
    plugin = {"type": "bridge", "bridge": link, "isGateway": False, "ipMasq": False, "ipam": ipam}
    conf = cri_server.directory / "cni/10-test.conflist"
    conf.parent.mkdir(exist_ok=True)
    cri_server.kill()
    try:
        conf.write_text(json.dumps({"cniVersion": "0.4.0", "name": "test", "plugins": [plugin]}))
        cri_server.start()
        assert outcome(engine, shell("ip -4 addr show dev eth0 | grep -c 10.213.7.", network="bridge")) == (0, "1\n")
        for each in engine.find({}):
            engine.remove(each.id)
    finally:
        conf.unlink()
        cri_server.kill()
        cri_server.start()
        subprocess.run(["ip", "link", "delete", link], check=False)


# -- what is left behind


def test_a_container_that_cannot_be_made_leaves_nothing(engine: CriEngine) -> None:
    with pytest.raises(EngineFailed, match="no users found"):
        engine.create(order("true", user="nosuch"))
    assert engine.find({}) == []
    assert kept(engine) == []


def test_a_sandbox_without_its_container_is_found_and_removed(
    engine: CriEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is left by whoever is killed between the two calls."""
    what = order("true", labels={"task-runner.daemon": "d", "task-runner.task": "t"})

    def die(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(engine._outputs, "make", die)
        patch.setattr(engine, "_unmake", lambda *_: None)
        with pytest.raises(Killed):
            engine.create(what)
    [found] = engine.find({"task-runner.daemon": "d"})
    assert (found.name, found.labels) == (what.name, what.labels)
    assert engine.find({"task-runner.daemon": "another"}) == []
    assert engine.look(found.id).state == "created"
    engine.remove(found.id)
    engine.remove(found.id)
    assert engine.look(found.id).state == "gone"


class Killed(BaseException):
    pass


def test_the_output_of_a_container_that_somebody_else_removed_is_swept(
    cri_server: CriServer,
    engine: CriEngine,
) -> None:
    removed, left = order("true"), order("true")
    container = begin(engine, removed)
    begin(engine, left)
    [sandbox] = [each.pod_sandbox_id for each in engine._engine.containers(None) if each.id == container]
    engine.wait(container, PATIENCE)
    other = CriEngine(str(cri_server.socket))
    other._outputs.remove = lambda _: None  # type: ignore[method-assign]
    other._remove(sandbox, removed.name)
    other.close()
    assert sorted(kept(engine)) == sorted([removed.name, left.name])
    engine.find({})
    assert kept(engine) == [left.name]


def test_output_lies_below_one_directory_for_each_engine(engine: CriEngine) -> None:
    what = order("true")
    container = begin(engine, what)
    directory = Path(engine._outputs.path(what.name))
    assert directory.parent.parent == Path(crioutput.BASE)
    assert oct(directory.stat().st_mode & 0o777) == "0o700"
    engine.remove(container)
    assert not directory.parent.exists()


# -- signals, and what is frozen


def test_a_signal_reaches_the_main_process(engine: CriEngine) -> None:
    container = begin(engine, shell("trap 'echo got; exit 9' USR1; echo ready; while :; do sleep 0.1; done"))
    pairs = engine.output(container, (0, 0))
    assert next(pairs) == (1, b"ready\n")
    engine.send(container, "SIGUSR1")
    assert list(pairs) == [(1, b"got\n")]
    assert engine.wait(container, PATIENCE).exit_code == 9
    engine.send(container, "SIGUSR1")
    with pytest.raises(EngineFailed, match="there is no signal SIGNONE"):
        engine.send(container, "SIGNONE")


def test_what_is_frozen_does_nothing_until_it_is_resumed(engine: CriEngine, tmp_path: Path) -> None:
    container = begin(engine, shell("while :; do echo . >> /in/ticks; sleep 0.02; done", mounts=mount(tmp_path)))
    ticks = tmp_path / "ticks"
    wait_for(ticks.exists)
    engine.pause(container)
    engine.pause(container)
    assert engine.look(container).state == "paused"
    size = ticks.stat().st_size
    assert engine.wait(container, 0.3).state == "paused"
    assert ticks.stat().st_size == size
    engine.resume(container)
    engine.resume(container)
    assert engine.look(container).state == "running"
    wait_for(lambda: ticks.stat().st_size > size)


@pytest.mark.parametrize("end", [lambda engine, it: engine.send(it, "SIGKILL"), lambda engine, it: engine.remove(it)])
def test_what_is_frozen_can_be_killed(engine: CriEngine, end: Callable[[CriEngine, str], None]) -> None:
    container = begin(engine, order("sleep", "1000"))
    engine.pause(container)
    end(engine, container)
    assert engine.wait(container, PATIENCE).state in ("exited", "gone")


# -- somebody else's containers


def test_a_container_is_found_by_its_name_id_or_the_name_in_its_pod(engine: CriEngine) -> None:
    labels = {"io.kubernetes.container.name": "app"}
    first, second = order("sleep", "1000", labels=labels), order("sleep", "1000", labels=labels)
    container = begin(engine, first)
    pid = engine.look(container).pid
    assert pid is not None
    wait_for(lambda: Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x001000\x00", "it is that process")
    assert engine.main_pid(first.name) == engine.main_pid(container) == engine.main_pid("app") == pid
    other = begin(engine, second)
    with pytest.raises(EngineFailed, match="several running containers app") as told:
        engine.main_pid("app")
    assert container in str(told.value)
    assert other in str(told.value)
    engine.remove(container)
    assert engine.main_pid("app") == engine.look(other).pid
    with pytest.raises(EngineFailed, match="no running container"):
        engine.main_pid(container)


# -- images


def test_an_image_that_cannot_be_pulled_is_told_in_the_words_of_the_engine(engine: CriEngine) -> None:
    assert engine.image_id("127.0.0.1:1/nothing:1") is None
    with pytest.raises(EngineFailed, match="connection refused"):
        engine.pull("127.0.0.1:1/nothing:1", None, lambda *_: None)
