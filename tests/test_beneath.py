"""What a task can write is opened beneath its directory: no link followed, nothing but regular files, no race lost.

Every test runs twice: with openat2 as the kernel has it, and without it.
"""

from __future__ import annotations

import ctypes
import errno
import gc
import io
import os
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
from conftest import PATIENCE, ROOT, wait_for

from task_runner.errors import Conflict, InvalidRequest, NotFound
from task_runner.lib import beneath
from task_runner.lib.beneath import Kind, NotRegular
from task_runner.service import archive, files

SECRET = b"the secret that stands outside"


def _no_openat2(_root: int, _path: bytes, _flags: int) -> int:
    raise OSError(errno.ENOSYS, "no openat2")


@pytest.fixture(params=["openat2", "walk"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "walk":
        monkeypatch.setattr(beneath, "_openat2", _no_openat2)
    return str(request.param)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A working directory with one of everything, beside a secret."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(SECRET)
    work = tmp_path / "work"
    (work / "dir" / "deep").mkdir(parents=True)
    (work / "dir" / "deep" / "file").write_bytes(b"content")
    (work / "link").symlink_to("dir/deep/file")
    (work / "out").symlink_to(tmp_path / "outside" / "file")
    (work / "dirlink").symlink_to("dir")
    (work / "outdir").symlink_to(tmp_path / "outside")
    os.mkfifo(work / "fifo")
    return work


@pytest.fixture
def root(work: Path) -> Iterator[int]:
    fd = beneath.open_root(str(work))
    yield fd
    os.close(fd)


def parts(path: str) -> tuple[bytes, ...]:
    return tuple(os.fsencode(path).split(b"/"))


def open_fds() -> int:
    """Not to be more afterwards; fewer they may be, as threads of earlier tests end when they like."""
    gc.collect()  # what earlier tests left open is not to be closed in the middle of this one
    return len(os.listdir("/proc/self/fd"))


def test_a_file_is_opened(root: int):
    fd = beneath.open_file(root, parts("dir/deep/file"))
    assert os.read(fd, 100) == b"content"
    os.close(fd)


@pytest.mark.parametrize("path", ["dirlink/deep/file", "outdir/file", "fifo/x", "dir/deep/file/x"])
def test_no_part_of_the_way_may_be_a_link_or_a_file(root: int, path: str):
    before = open_fds()
    for call in (beneath.open_file, beneath.open_directory, beneath.look, beneath.take_hold):
        with pytest.raises(NotADirectoryError):
            call(root, parts(path))
    assert open_fds() <= before


@pytest.mark.parametrize(
    ("path", "kind"), [("link", Kind.LINK), ("out", Kind.LINK), ("outdir", Kind.LINK), ("dir", Kind.DIRECTORY)]
)
def test_only_a_regular_file_is_opened(root: int, path: str, kind: Kind):
    before = open_fds()
    with pytest.raises(NotRegular) as caught:
        beneath.open_file(root, parts(path))
    assert caught.value.kind is kind
    assert open_fds() <= before


def test_a_fifo_is_never_opened_so_its_writer_notices_nothing(work: Path, root: int):
    writer = subprocess.Popen([sys.executable, "-c", f"open({str(work / 'fifo')!r}, 'wb').write(b'x' * 100)"])
    try:
        wait_for(lambda: "wait_for_partner" in Path(f"/proc/{writer.pid}/wchan").read_text() or _sleeps(writer.pid))
        for _ in range(10):
            with pytest.raises(NotRegular):
                beneath.open_file(root, parts("fifo"))
        with open(work / "fifo", "rb") as reader:
            assert reader.read() == b"x" * 100
        assert writer.wait(PATIENCE) == 0
    finally:
        writer.kill()
        writer.wait()


def _sleeps(pid: int) -> bool:
    """It waits in open(2), which a kernel without wait channels cannot say."""
    try:
        call, path = Path(f"/proc/{pid}/syscall").read_text().split()[:2]
    except (OSError, ValueError):
        return False
    return call in ("257", "56") and path != "running"


def test_a_socket_and_a_device_are_refused(work: Path, root: int):
    with socket.socket(socket.AF_UNIX) as listener:
        before = os.getcwd()
        os.chdir(work)  # a path to a socket must be short
        try:
            listener.bind("socket")
        finally:
            os.chdir(before)
    with pytest.raises(NotRegular, match="socket"):
        beneath.open_file(root, parts("socket"))
    device = beneath.open_root("/dev")
    try:
        with pytest.raises(NotRegular, match="device"):
            beneath.open_file(device, parts("null"))
    finally:
        os.close(device)


@pytest.mark.parametrize("bad", [(), (b"..",), (b"dir", b"..", b".."), (b".",), (b"",), (b"a/b",), (b"a\0",)])
def test_what_is_no_name_is_no_part_of_a_path(root: int, bad: tuple[bytes, ...]):
    with pytest.raises(ValueError):
        beneath.take_hold(root, bad)


def test_another_file_system_is_not_entered(way: str):
    slash = beneath.open_root("/")
    try:
        with pytest.raises(OSError) as caught:
            beneath.open_file(slash, parts("proc/version"))
        assert caught.value.errno == errno.EXDEV
        with pytest.raises(OSError) as caught:
            beneath.open_directory(slash, parts("proc"))
        assert caught.value.errno == errno.EXDEV
    finally:
        os.close(slash)


def test_a_path_that_is_too_long_is_an_error_and_leaks_nothing(root: int):
    before = open_fds()
    for path in ("x" * 256, "/".join(["x" * 200] * 30)):
        with pytest.raises(OSError) as caught:
            beneath.open_file(root, parts(path))
        assert caught.value.errno in (errno.ENAMETOOLONG, errno.ENOENT)
    assert open_fds() <= before


def test_a_directory_that_is_a_link_itself_is_no_root(work: Path):
    with pytest.raises(OSError):
        beneath.open_root(str(work / "dirlink"))


def test_a_link_is_read_and_not_followed(root: int, work: Path):
    _found, target = beneath.look(root, parts("out"))
    assert target == os.fsencode(work.parent / "outside" / "file")


FILTERED = """
import ctypes, errno, os, struct, sys
from task_runner.lib import beneath
libc = ctypes.CDLL(None, use_errno=True)
# ld [0]; jeq 437: ret ERRNO; ret ALLOW
code = [(0x20, 0, 0, 0), (0x15, 0, 1, 437), (0x06, 0, 0, 0x00050000 | int(sys.argv[2])), (0x06, 0, 0, 0x7fff0000)]
filter = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in code))
class Program(ctypes.Structure):
    _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]
program = Program(len(code), ctypes.addressof(filter))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
root = beneath.open_root(sys.argv[1])
try:
    beneath._openat2(root, b"dir", os.O_PATH)
except OSError as error:
    assert error.errno == int(sys.argv[2]), error
else:
    sys.exit("openat2 is there in spite of the filter")
print(os.read(beneath.open_file(root, [b"dir", b"deep", b"file"]), 100).decode())
try:
    beneath.open_file(root, [b"outdir", b"file"])
except NotADirectoryError:
    print("refused")
"""


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM, errno.EACCES])
def test_where_a_sandbox_forbids_openat2_the_path_is_walked(work: Path, number: int, way: str):
    if way == "walk" or not beneath._HAS_NUMBER:
        return  # the filter is the test
    done = subprocess.run(
        [sys.executable, "-c", FILTERED, str(work), str(number)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.stdout, done.returncode) == ("content\nrefused\n", 0), done.stderr


# -- races


class Swapper:
    """A thread that exchanges two names all the time, with pauses as long as a few steps of whoever reads: without
    them it would mostly keep the reader from its processor."""

    def __init__(self, one: Path, other: Path) -> None:
        self._names = os.fsencode(one), os.fsencode(other)
        self._end = threading.Event()
        self.rounds = 0
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        one, other = self._names
        while not self._end.is_set():
            # RENAME_EXCHANGE: there is no moment at which either name is missing
            assert libc.renameat2(-100, one, -100, other, 2) == 0, os.strerror(ctypes.get_errno())
            self.rounds += 1
            time.sleep(0.0001)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._end.set()
        self._thread.join()


def attack(work: Path, swap: tuple[str, str], read: Callable[[], bytes], enough: int = 100) -> None:
    """Read while names are exchanged, until both the good and the bad were often met; the secret never comes out."""
    good = refused = 0
    with Swapper(work / swap[0], work / swap[1]) as swapper:

        def met_both() -> bool:
            nonlocal good, refused
            for _ in range(10):
                try:
                    data = read()
                except (OSError, NotFound, Conflict, InvalidRequest):
                    refused += 1
                    continue
                assert SECRET not in data
                good += b"content" in data
                refused += b"content" not in data
            return good >= enough and refused >= enough and swapper.rounds >= enough

        wait_for(met_both, "both were met")


def test_a_file_that_becomes_a_link_is_not_followed(work: Path, root: int):
    (work / "dir" / "deep" / "link").symlink_to(work.parent / "outside" / "file")

    def read() -> bytes:
        fd = beneath.open_file(root, parts("dir/deep/file"))
        try:
            return os.read(fd, 1000)
        finally:
            os.close(fd)

    attack(work, ("dir/deep/file", "dir/deep/link"), read)


def test_a_directory_that_becomes_a_link_is_not_followed(work: Path, root: int):
    (work / "dir" / "away").symlink_to(work.parent / "outside")

    def read() -> bytes:
        fd = beneath.open_file(root, parts("dir/deep/file"))
        try:
            return os.read(fd, 1000)
        finally:
            os.close(fd)

    attack(work, ("dir/deep", "dir/away"), read)


def test_a_listing_never_shows_what_is_outside(work: Path):
    (work / "dir" / "away").symlink_to(work.parent / "outside")
    (work.parent / "outside" / SECRET.decode()).write_text("")

    def read() -> bytes:
        entries, _more = files.page(str(work), (b"dir",), recursive=True, after=None, limit=1000)
        assert {entry.kind for entry in entries if entry.parts[-1] == b"file"} <= {Kind.FILE}
        names = b" ".join(b"/".join(entry.parts) for entry in entries)
        return names + (b"content" if b"dir/deep/file" in names else b"")

    attack(work, ("dir/deep", "dir/away"), read, 30)


@pytest.mark.parametrize("kind", archive.FORMATS)
def test_an_archive_never_holds_what_is_outside(work: Path, kind: str):
    (work / "dir" / "away").symlink_to(work.parent / "outside")

    def read() -> bytes:
        return b"".join(unpacked(kind, b"".join(archive.pack(str(work), (b"dir",), kind))).values())

    attack(work, ("dir/deep", "dir/away"), read, 15)


def unpacked(kind: str, data: bytes) -> dict[str, bytes]:
    if kind == "zip":
        with zipfile.ZipFile(io.BytesIO(data)) as found:
            return {name: found.read(name) for name in found.namelist() if not name.endswith("/")}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:*") as tar:
        return {m.name: (tar.extractfile(m) or io.BytesIO()).read() for m in tar if m.isfile()}


# -- archives of files that change


def packed(work: Path, kind: str, before_end: Callable[[], None]) -> dict[str, bytes]:
    """An archive during whose making something happens: after the first piece of the first file was read."""
    read, first = io.FileIO.read, [before_end]

    class Slow(io.FileIO):
        def read(self, size: int | None = -1, /) -> bytes:
            data = read(self, size)
            while first:
                first.pop()()
            return data

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(archive.io, "FileIO", Slow)
        return unpacked(kind, b"".join(archive.pack(str(work), (), kind)))


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "a").write_bytes(os.urandom(600_000))
    (plain / "b").write_bytes(b"behind")
    return plain


@pytest.mark.parametrize("kind", archive.FORMATS)
def test_a_file_that_shrinks_while_it_is_packed_spoils_nothing_and_is_named(plain: Path, kind: str):
    whole = (plain / "a").read_bytes()
    found = packed(plain, kind, lambda: os.truncate(plain / "a", 300_000))
    assert found["b"] == b"behind"
    assert found["a"] == (whole[:300_000] if kind == "zip" else whole[:300_000] + bytes(300_000))
    assert "'a': only its first 300000 bytes of 600000" in found[archive.NOTES].decode()


@pytest.mark.parametrize("kind", archive.FORMATS)
def test_a_file_that_grows_while_it_is_packed_is_cut_and_named(plain: Path, kind: str):
    whole = (plain / "a").read_bytes()
    found = packed(plain, kind, lambda: os.truncate(plain / "a", 900_000))
    assert (found["a"], found["b"]) == (whole, b"behind")
    assert "'a': its first 600000 bytes" in found[archive.NOTES].decode()


@pytest.mark.parametrize("kind", archive.FORMATS)
def test_a_file_that_vanishes_while_others_are_packed_is_named_or_was_not_seen(plain: Path, kind: str):
    def vanish() -> None:
        (plain / "b").unlink()

    found = packed(plain, kind, vanish)
    assert len(found["a"]) == 600_000
    assert "b" not in found


@pytest.mark.parametrize("kind", archive.FORMATS)
def test_what_is_left_out_is_named_and_the_notes_take_no_name_of_the_task(work: Path, kind: str):
    (work / archive.NOTES).write_bytes(b"mine")
    found = unpacked(kind, b"".join(archive.pack(str(work), (), kind)))
    assert found[archive.NOTES] == b"mine"
    assert b"'fifo': left out: it is a fifo" in found["_" + archive.NOTES]


def test_deeper_than_anybody_goes_is_said(tmp_path: Path):
    inner = tmp_path / "work"
    inner.mkdir()
    fd = os.open(inner, os.O_RDONLY)
    for _ in range(files.MAX_DEPTH + 50):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    before = open_fds()
    entries, more = files.page(str(inner), (), recursive=True, after=None, limit=10_000)
    assert (len(entries), more) == (files.MAX_DEPTH, False)
    assert "directories deep" in (entries[-1].error or "")
    notes = unpacked("tar", b"".join(archive.pack(str(inner), (), "tar")))[archive.NOTES]
    assert b"directories deep" in notes
    assert open_fds() <= before


def test_a_large_directory_is_listed_in_pieces_with_every_name_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(files, "PIECE", 7)
    names = {f"{number:03}".encode() for number in range(100)}
    for name in names:
        (tmp_path / name.decode()).mkdir()
        (tmp_path / name.decode() / "x").touch()
    seen: list[files.Parts] = []
    after: files.Parts | None = None
    while True:
        entries, more = files.page(str(tmp_path), (), recursive=True, after=after, limit=9)
        seen += [entry.parts for entry in entries]
        if not more:
            break
        after = seen[-1]
    assert seen == sorted(p for name in names for p in ((name,), (name, b"x")))


def test_a_zip_has_a_limit_that_says_what_to_do_instead(work: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archive, "MAX_ZIP_ENTRIES", 3)
    with pytest.raises(Conflict, match=r"tar\.gz"):
        b"".join(archive.pack(str(work), (), "zip"))
    assert archive.count(str(work), (), 4) == 4


def test_a_large_zip_has_its_sizes_in_64_bits(tmp_path: Path):
    """A sparse file of more than 4 GiB: only its head and the directory are looked at, so it costs no space."""
    writer, sizes = archive._Zip(), 5 * 2**30
    entry = files.Entry(parts=(b"big",), kind=Kind.FILE, size=sizes, modified_at=0.0, mode=0o644)
    writer._at = 2**33  # as if so much had been sent before
    writer._list(b"big", 0x0808, 8, archive._dos_time(entry), 0, 17, sizes, 2**32 + 5, 0o100644)
    writer._count = 1
    tail = b"".join(writer.end())
    extra = struct.pack("<HHQQQ", 1, 24, sizes, 17, 2**32 + 5)
    assert extra in tail
    assert struct.pack("<QQQQ", 1, 1, len(writer._directory), 2**33) in tail
