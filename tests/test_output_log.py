"""The runner's side of a task's output: straight into files, of which a limit keeps the head and the tail."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE
from hypothesis import given
from hypothesis import strategies as st

from task_runner.lib import digest, gaps
from task_runner.lib.outputlog import QUICK, SLOW, OutputLog, next_look
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.model.spec import Action, OutputMode, Spec
from task_runner.model.status import Gap, Output

LIMIT = 1 << 18
Logs = Callable[..., OutputLog]


@pytest.fixture
def directory(tmp_path: Path) -> AttemptDirectory:
    return AttemptDirectory(str(tmp_path), 1)


@pytest.fixture
def logs(directory: AttemptDirectory) -> Iterator[Logs]:
    """Opens logs of specs with these fields."""
    opened: list[OutputLog] = []

    def make(**fields: Any) -> OutputLog:
        log = OutputLog(directory, Spec(actions=[Action(machine="process")], **fields), {})
        opened.append(log)
        log.open()
        return log

    yield make
    for log in opened:
        log.close()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


# -- without a limit


def test_a_plain_output_goes_straight_to_one_file(logs: Logs, directory: AttemptDirectory):
    log = logs()
    assert log.report() == (Output(), None)
    log.begin()
    assert log.stdout == log.stderr and not log.filters
    subprocess.run(["sh", "-c", "echo one; echo two >&2; echo three"], stdout=log.stdout, stderr=log.stderr, check=True)
    log.end()
    assert Path(directory.output).read_bytes() == b"one\ntwo\nthree\n"
    assert stat.S_IMODE(os.stat(directory.output).st_mode) == 0o600
    assert log.size() == (14, None)
    assert log.check() is None
    output, stderr = log.seal()
    assert stderr is None
    assert (output.bytes, output.gaps, output.sha256) == (14, [], sha256(b"one\ntwo\nthree\n"))
    assert log.written_at() == os.stat(directory.output).st_mtime


def test_streams_that_are_kept_apart(logs: Logs, directory: AttemptDirectory):
    log = logs(output_mode=OutputMode.SEPARATE)
    log.begin()
    subprocess.run(["sh", "-c", "echo one; echo two >&2; echo 3"], stdout=log.stdout, stderr=log.stderr, check=True)
    log.end()
    assert not os.path.exists(directory.output)
    assert Path(directory.stdout).read_bytes() == b"one\n3\n"
    assert Path(directory.stderr).read_bytes() == b"two\n"
    assert log.size() == (6, 4)
    output, stderr = log.seal()
    assert stderr is not None
    assert (output.sha256, stderr.sha256) == (sha256(b"one\n3\n"), sha256(b"two\n"))


def test_what_writes_to_the_log_can_only_append(logs: Logs, directory: AttemptDirectory):
    log = logs()
    code = "import os; os.write(1, b'one'); os.lseek(1, 0, 0); os.write(1, b'two')"
    subprocess.run([sys.executable, "-c", code], stdout=log.stdout, check=True)
    assert Path(directory.output).read_bytes() == b"onetwo"


@pytest.mark.parametrize("mode", OutputMode)
def test_a_link_in_the_place_of_a_log_is_not_followed(directory: AttemptDirectory, tmp_path: Path, mode: OutputMode):
    for name in ("output.log", "stderr.log"):
        (tmp_path / name).symlink_to(tmp_path / "elsewhere")
    log = OutputLog(directory, Spec(actions=[], output_mode=mode), {})
    before = os.listdir("/proc/self/fd")
    with pytest.raises(OSError, match="symbolic"):
        log.open()
    assert set(os.listdir("/proc/self/fd")) <= set(before)
    assert not (tmp_path / "elsewhere").exists()


def test_a_plain_output_loads_no_large_library(tmp_path: Path):
    code = """
import os, sys
from task_runner.lib.outputlog import OutputLog
from task_runner.lib.taskdir import AttemptDirectory
from task_runner.model.spec import Spec
log = OutputLog(AttemptDirectory(sys.argv[1], 1), Spec(actions=[]), {})
log.open(); log.begin(); os.write(log.stdout, b"x" * 100_000); log.end()
assert log.seal()[0].sha256
sys.exit(sorted({"hashlib", "_hashlib", "traceback", "termios"} & set(sys.modules)) or 0)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=PATIENCE)


# -- the sum


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, (1 << 18) + 1, digest.LONG, digest.LONG + 1])
def test_the_sum_of_an_output(logs: Logs, size: int):
    data = random.Random(size).randbytes(size)
    log = logs()
    with open(log.stdout, "wb", closefd=False) as file:
        file.write(data)
    assert log.seal()[0].sha256 == sha256(data)


def test_the_sum_of_a_very_long_output_is_not_made(logs: Logs, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(digest, "MOST", 3)
    log = logs()
    os.write(log.stdout, b"abc")
    assert log.seal()[0].sha256 == sha256(b"abc")
    os.write(log.stdout, b"d")
    assert (log.seal()[0].bytes, log.seal()[0].sha256) == (4, None)


def test_the_sum_of_a_log_that_somebody_cut_is_not_known(logs: Logs, directory: AttemptDirectory):
    log = logs(max_output_bytes=LIMIT)
    write(log, bytes(4 * LIMIT))
    log.check()
    os.truncate(directory.output, 10)
    assert log.seal()[0].sha256 is None


# -- with a limit


def write(log: OutputLog, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(log.stdout, view) :]


def on_disk(path: str) -> int:
    return os.stat(path).st_blocks * 512


def kept(data: bytes, output: Output) -> bytes:
    """What of these bytes is not in a gap."""
    for gap in reversed(output.gaps):
        data = data[: gap.offset] + data[gap.offset + gap.bytes :]
    return data


def check_final(log: OutputLog, path: str, data: bytes, limit: int) -> None:
    """The end of an output with a limit: as promised, to the byte."""
    block = gaps.block_of(os.stat(path))
    (output, _) = log.seal()
    (gap,) = output.gaps
    assert output.bytes == os.stat(path).st_size == len(data)
    assert gap.offset % block == 0 and gap.bytes % block == 0
    assert limit // 2 <= gap.offset < limit // 2 + block
    tail = len(data) - gap.offset - gap.bytes
    assert limit - limit // 2 <= tail < limit - limit // 2 + block
    assert on_disk(path) <= limit + 3 * block
    content = Path(path).read_bytes()
    assert kept(content, output) == kept(data, output)
    assert content[gap.offset : gap.offset + gap.bytes] == bytes(gap.bytes)
    assert output.sha256 == sha256(kept(data, output))


@pytest.mark.parametrize("limit", [65_536, 65_537, 100_001, LIMIT])
def test_the_head_and_the_tail_are_kept_and_the_middle_is_freed(logs: Logs, directory: AttemptDirectory, limit: int):
    data = random.Random(limit).randbytes(3_000_007)
    log = logs(max_output_bytes=limit)
    chunk, at, gap = 40_000, 0, Gap(offset=0, bytes=0)
    while at < len(data):
        write(log, data[at : at + chunk])
        at = min(at + chunk, len(data))
        patience = log.check()
        assert patience is not None and QUICK <= patience <= SLOW
        assert on_disk(directory.output) <= limit + chunk + 3 * 4096
        (output, _) = log.report()
        assert output.bytes == at
        for each in output.gaps:  # a gap only grows
            assert gap.offset in (0, each.offset) and each.bytes >= gap.bytes
            gap = each
        assert kept(Path(directory.output).read_bytes(), output) == kept(data[:at], output)
    check_final(log, directory.output, data, limit)


@pytest.mark.parametrize("size", [0, 1, LIMIT, LIMIT + 8192])
def test_an_output_within_its_limit_is_kept_whole(logs: Logs, directory: AttemptDirectory, size: int):
    data = random.Random(1).randbytes(size)
    log = logs(max_output_bytes=LIMIT)
    write(log, data)
    log.check()
    assert log.seal()[0].sha256 == sha256(kept(data, log.seal()[0]))
    if size <= LIMIT:
        assert log.seal()[0].gaps == []


def test_a_command_never_waits_for_a_limit(logs: Logs, directory: AttemptDirectory):
    """Nobody looks while it writes: it comes to its end all the same, and the end is right."""
    log = logs(max_output_bytes=LIMIT)
    code = "import random, sys; sys.stdout.buffer.write(random.Random(3).randbytes(8_000_000))"
    subprocess.run([sys.executable, "-c", code], stdout=log.stdout, check=True, timeout=PATIENCE)
    assert on_disk(directory.output) >= 8_000_000
    check_final(log, directory.output, random.Random(3).randbytes(8_000_000), LIMIT)


def test_a_limit_while_a_command_writes(logs: Logs, directory: AttemptDirectory):
    log = logs(max_output_bytes=LIMIT)
    code = "import random, sys; r = random.Random(3)\nfor _ in range(600): sys.stdout.buffer.write(r.randbytes(40_000))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=log.stdout) as command:
        while command.poll() is None:
            patience = log.check()
            assert patience is not None
            time.sleep(patience)
    assert command.returncode == 0
    source = random.Random(3)
    check_final(log, directory.output, b"".join(source.randbytes(40_000) for _ in range(600)), LIMIT)


def test_each_of_two_streams_has_the_limit(logs: Logs, directory: AttemptDirectory):
    log = logs(output_mode=OutputMode.SEPARATE, max_output_bytes=LIMIT)
    write(log, b"a" * (4 * LIMIT))
    os.write(log.stderr, b"b" * LIMIT)
    log.check()
    output, stderr = log.seal()
    assert stderr is not None
    assert len(output.gaps) == 1 and stderr.gaps == []
    assert stderr.sha256 == sha256(b"b" * LIMIT)
    assert on_disk(directory.stdout) <= LIMIT + 3 * 4096


def test_freeing_is_no_sign_of_life(logs: Logs, directory: AttemptDirectory):
    log = logs(max_output_bytes=LIMIT)
    write(log, bytes(4 * LIMIT))
    os.utime(directory.output, (1_000_000, 1_000_000))
    log.check()
    assert log.report()[0].gaps
    assert log.written_at() == 1_000_000
    assert log.seal()[0].written_at == "1970-01-12T13:46:40.000000Z"
    write(log, b"x")
    written_at = log.written_at()
    assert written_at is not None and written_at > 1_000_000


def test_where_nothing_can_be_freed_all_is_kept_and_that_is_said(
    logs: Logs, directory: AttemptDirectory, monkeypatch: pytest.MonkeyPatch
):
    def refuse(_fd: int, _start: int, _end: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(gaps, "punch", refuse)
    log = logs(max_output_bytes=LIMIT)
    data = random.Random(2).randbytes(4 * LIMIT)
    assert log.report()[0].note is None
    write(log, data)
    log.check()
    assert log.report()[0].note == "the output is kept whole: this file system frees no middle (Operation not supported)"
    assert log.check() is None
    assert log.seal()[0].note is not None
    assert (log.seal()[0].gaps, log.seal()[0].sha256) == ([], sha256(data))


def test_what_could_not_be_freed_now_is_freed_later(
    logs: Logs, directory: AttemptDirectory, monkeypatch: pytest.MonkeyPatch
):
    def fail(_fd: int, _start: int, _end: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    log = logs(max_output_bytes=LIMIT)
    data = random.Random(2).randbytes(4 * LIMIT)
    write(log, data)
    with monkeypatch.context() as patched:
        patched.setattr(gaps, "punch", fail)
        assert log.check() is not None
        assert log.report()[0].gaps == []
    log.check()
    check_final(log, directory.output, data, LIMIT)


def test_bytes_cannot_be_freed_in_a_pipe():
    read, write_end = os.pipe()
    with pytest.raises(OSError, match=r"seek|supported|device"):
        gaps.punch(write_end, 0, 4096)
    os.close(read)
    os.close(write_end)


# -- what is decided, without a file


@given(
    size=st.integers(0, 10**9),
    more=st.integers(0, 10**7),
    limit=st.integers(65_536, 10**8),
    block=st.sampled_from([4096, 65_536, 1 << 21]),
)
def test_which_bytes_are_not_kept(size: int, more: int, limit: int, block: int):
    start, end = gaps.middle(size, limit, block)
    assert 0 <= start <= end
    assert start % block == 0 and end % block == 0
    assert start >= limit // 2
    if end > start:
        assert size - end >= limit - limit // 2  # the tail
        assert size - (end - start) < limit + 2 * block
    else:
        assert size < limit + 2 * block
    later = gaps.middle(size + more, limit, block)
    assert later[0] == start and later[1] >= end


def test_when_to_look_again():
    assert next_look(LIMIT, 0.1, 0, 0.1) == 0.2  # silent: later and later
    assert next_look(LIMIT, SLOW, 0, SLOW) == SLOW
    assert next_look(LIMIT, SLOW, 10**9, 1.0) == QUICK  # fast
    assert next_look(LIMIT, 1.0, 10**6, 1.0) == pytest.approx(1.048576)  # not much more than what it may grow by
    assert next_look(1 << 30, 0.5, 1000, 0.5) == 1.0  # slow: no sudden trust
