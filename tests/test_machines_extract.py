"""The machine that extracts: what is in an archive comes out, below one directory, whoever made it."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import random
import shutil
import stat
import struct
import subprocess
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from machinery import Bench

from task_runner.errors import ActionFailed
from task_runner.machines.archives import Entry, Kind
from task_runner.machines.unpack import Unpacking, check_target

NOISE = random.Random(1).randbytes(300_000)
WHEN = 1_600_000_000


def zstd(data: bytes) -> bytes:
    try:
        from compression import zstd as library  # type: ignore[import-not-found]
    except ImportError:
        import zstandard

        return zstandard.ZstdCompressor(write_checksum=True).compress(data)
    return bytes(library.compress(data, options={library.CompressionParameter.checksum_flag: 1}))


PACK: dict[str, Callable[[bytes], bytes]] = {
    "tar": bytes,
    "tar.gz": lambda data: gzip.compress(data, mtime=0),
    "tar.xz": lzma.compress,
    "tar.zst": zstd,
}


# -- members of a tar archive


def member(name: str, kind: bytes = tarfile.REGTYPE, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.mtime = kind, len(content), WHEN
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    for field, value in fields.items():
        setattr(info, field, value)
    return info, content


def file(name: str, content: bytes = b"harm", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, content=content, **fields)


def directory(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.DIRTYPE, **fields)


def symlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.SYMTYPE, linkname=target)


def hardlink(name: str, target: str) -> tuple[tarfile.TarInfo, bytes]:
    return member(name, tarfile.LNKTYPE, linkname=target)


def tar(*members: tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=form) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content) if content else None)
    return made.getvalue()


def zipped(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return made.getvalue()


def zip_entry(name: str, mode: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, (2020, 9, 13, 12, 26, 40))
    info.create_system, info.external_attr = 3, mode << 16
    return info


def extract(bench: Bench, archive: bytes, **parameters: Any) -> Any:
    (bench.work / "archive").write_bytes(archive)
    return bench.run("extract", {"path": "archive", "into": "out", **parameters})


def extracted(bench: Bench, archive: bytes, **parameters: Any) -> Path:
    shutil.rmtree(bench.work / "out", ignore_errors=True)
    ended = extract(bench, archive, **parameters)
    assert ended.code == 0, ended
    return bench.work / "out"


def refused(bench: Bench, archive: bytes, *said: str, **parameters: Any) -> str:
    ended = extract(bench, archive, **parameters)
    assert ended.code == 1, ended
    for words in said:
        assert words in ended.output
    assert ended.output.startswith("extract: ")
    assert ended.output.count("\n") == 1
    return str(ended.output)


# -- what is in it comes out

TREE = tar(
    directory("top", mode=0o750),
    file("top/run", NOISE, mode=0o755),
    file("top/secret", b"x", mode=0o400),
    file("top/empty", b""),
    directory("top/nothing in it", mode=0o555),
    symlink("top/link", "run"),
    symlink("top/deep/link", "../../top/./run"),
    hardlink("top/again", "top/run"),
    file("top/é \N{SNOWMAN}", b"text"),
    file("top/" + "long/" * 60 + "n" * 200, b"far"),
)


def check_tree(top: Path) -> None:
    assert (top / "run").read_bytes() == NOISE
    assert (top / "again").samefile(top / "run")
    assert (top / "empty").read_bytes() == b""
    assert (top / "é \N{SNOWMAN}").read_bytes() == b"text"
    assert (top / ("long/" * 60 + "n" * 200)).read_bytes() == b"far"
    assert os.readlink(top / "link") == "run"
    assert (top / "deep/link").read_bytes() == NOISE
    modes = {name: stat.S_IMODE((top / name).stat().st_mode) for name in ("", "run", "secret", "empty", "nothing in it")}
    assert modes == {"": 0o750, "run": 0o755, "secret": 0o400, "empty": 0o644, "nothing in it": 0o755}
    for name in ("", "run", "secret", "nothing in it", "link"):
        assert (top / name).lstat().st_mtime == WHEN, name


@pytest.mark.parametrize("kind", PACK)
def test_every_kind_is_known_by_its_content(bench: Bench, kind: str):
    archive = PACK[kind](TREE)
    check_tree(extracted(bench, archive) / "top")
    check_tree(extracted(bench, archive, format=kind) / "top")


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_form_of_tar(bench: Bench, form: int):
    name = "d" * 90 + "/" + "f" * 90
    out = extracted(bench, tar(file(name, b"1"), symlink("s", "d" * 90), form=form))
    assert (out / name).read_bytes() == b"1"
    if form != tarfile.USTAR_FORMAT:
        far = "/".join(["e" * 200] * 4)
        assert (extracted(bench, tar(file(far, b"2"), form=form)) / far).read_bytes() == b"2"


def test_a_zip_archive(bench: Bench):
    archive = zipped(
        (zip_entry("d/", 0o40750), b""),
        (zip_entry("d/run", 0o100755), NOISE),
        (zip_entry("d/link", 0o120777), b"run"),
        ("plain \N{SNOWMAN}", b"1"),
        ("deep/er/x", b""),
    )
    out = extracted(bench, archive)
    assert (out / "d/run").read_bytes() == NOISE
    assert stat.S_IMODE((out / "d/run").stat().st_mode) == 0o755
    assert stat.S_IMODE((out / "d").stat().st_mode) == 0o750
    assert os.readlink(out / "d/link") == "run"
    assert (out / "plain \N{SNOWMAN}").read_bytes() == b"1"
    assert (out / "deep/er/x").read_bytes() == b""
    assert abs((out / "d/run").stat().st_mtime - WHEN) < 15 * 3600  # in whatever zone this is


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_method_of_zip(bench: Bench, method: int):
    assert (extracted(bench, zipped(("f", NOISE), method=method)) / "f").read_bytes() == NOISE


def test_empty_archives(bench: Bench):
    for archive in (tar(), zipped(), gzip.compress(tar())):
        assert list(extracted(bench, archive).iterdir()) == []


@pytest.mark.needs("tar")
def test_what_the_system_packs(bench: Bench):
    source = bench.away / "source"
    (source / "d").mkdir(parents=True)
    (source / "d/f").write_bytes(NOISE)
    with open(source / "holes", "wb") as holes:
        for place in (100_000, 3_000_000):
            holes.seek(place)
            holes.write(b"x" * 5000)
        holes.truncate(5_000_000)
    for options in (["--format=gnu", "-S"], ["--format=pax", "-S"], ["--format=v7"], ["--format=pax", "-S", "--sparse-version=0.1"]):
        made = subprocess.run(
            ["tar", "-c", *options, "-C", str(source), "."], check=True, capture_output=True, timeout=60
        ).stdout
        out = extracted(bench, made)
        assert (out / "d/f").read_bytes() == NOISE
        assert (out / "holes").read_bytes() == (source / "holes").read_bytes()


def test_leading_parts_are_left_out(bench: Bench):
    members = [directory("a"), file("a/b/c", b"1"), file("short", b"2"), symlink("a/b/l", "c"), hardlink("a/b/h", "a/b/c")]
    out = extracted(bench, tar(*members), stripComponents=2)
    assert {each.name for each in out.iterdir()} == {"c", "l", "h"}
    assert (out / "l").read_bytes() == (out / "h").read_bytes() == b"1"


def test_it_goes_into_the_working_directory_itself_and_from_anywhere_in_it(bench: Bench):
    (bench.work / "d").mkdir()
    (bench.work / "d/v1.tar").write_bytes(tar(file("f", b"1")))
    (bench.work / "latest").symlink_to("d/./v1.tar")
    assert bench.run("extract", {"path": "latest"}).code == 0
    assert (bench.work / "f").read_bytes() == b"1"


def test_names_that_are_no_text(bench: Bench):
    for form in (tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        out = extracted(bench, tar(file(os.fsdecode(b"caf\xe9"), b"1"), form=form))
        assert os.listdir(os.fsencode(out)) == [b"caf\xe9"]


def test_of_two_entries_with_one_name_the_last_counts(bench: Bench):
    members = [file("f", b"1"), symlink("l", "f"), file("f", b"22"), file("l", b"3"), hardlink("l", "l"), symlink("f", "l"), directory("d"), directory("d")]
    out = extracted(bench, tar(*members))
    assert os.readlink(out / "f") == "l"
    assert (out / "l").read_bytes() == b"3"
    assert (extracted(bench, zipped(("a", b"1"))) / "a").read_bytes() == b"1"


def test_progress_is_told(bench: Bench):
    ended = extract(bench, PACK["tar.gz"](TREE))
    assert ended.progress[-1].startswith("100.0 ")
    assert "entries" in ended.progress[-1]
    assert f"{len(NOISE) + 8} bytes" in ended.output


# -- what would do harm
#
# Each of these does: extracted naively, below a directory of its own, it writes to a file outside, or makes one.

OUT = "../../away/victim"


def at(away: Path) -> dict[str, bytes]:
    """Archives that change the file `victim` in the directory ``away``, beside the parent of where they are unpacked."""
    victim, harm = str(away / "victim"), file("x/victim")
    return {
        "an absolute name": tar(file(victim)),
        "names that go up": tar(file(OUT)),
        "names that go down and up": tar(directory("a"), file("a/../" + OUT)),
        "a link to an absolute path": tar(symlink("x", str(away)), harm),
        "a link that goes up": tar(symlink("x", "../../away"), harm),
        "a link that goes down and up": tar(directory("a"), symlink("x", "a/../../../away"), harm),
        "a link to the file": tar(symlink("x", OUT), file("x")),
        "a link through a link": tar(symlink("a", ".."), symlink("x", "a/../away"), harm),
        "a link that becomes another": tar(
            directory("p/q"), symlink("p/q/r", "../.."), symlink("x", "p/q/r/../../away"), harm
        ),
        "a link below a link": tar(
            directory("p/q"), symlink("p/q/r", "../../"), symlink("p/q/r/x", "../../away"), harm
        ),
        "a hard link to a file outside": tar(hardlink("x", OUT), file("x")),
        "a hard link to an absolute path": tar(hardlink("x", victim), file("x")),
        "a hard link that moves a link": tar(
            directory("p/q"), symlink("p/q/r", "../../"), hardlink("up", "p/q/r"), file("up/away/victim")
        ),
    }  # fmt: skip


ZIPPED = {
    "names that go up": lambda away: zipped((OUT, b"harm")),
    "an absolute name": lambda away: zipped((zip_entry(str(away / "victim"), 0o100644), b"harm")),
    "a link that goes up": lambda away: zipped((zip_entry("x", 0o120777), b"../../away"), ("x/victim", b"harm")),
    "a link to an absolute path": lambda away: zipped((zip_entry("x", 0o120777), bytes(away)), ("x/victim", b"harm")),
    "a link that goes down and up": lambda away: zipped(
        ("a/b", b""), (zip_entry("x", 0o120777), b"a/../../../away"), ("x/victim", b"harm")
    ),
}  # fmt: skip


def unzip_naively(archive: bytes, out: Path) -> None:
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        for info in opened.infolist():
            path = os.path.join(out, info.filename)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            if stat.S_ISLNK(info.external_attr >> 16):
                os.symlink(opened.read(info), path)
            else:
                Path(path).write_bytes(opened.read(info))


def untar_naively(archive: bytes, out: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        opened.extractall(out, filter="fully_trusted")


def unharmed(bench: Bench) -> None:
    """Nothing outside has changed, and nothing that was made leads there."""
    assert {each.name: each.read_text() for each in bench.away.iterdir()} == {"victim": "untouched"}
    assert (bench.away / "victim").stat().st_nlink == 1
    top = bench.work / "out"
    for each in top.rglob("*"):
        assert each.resolve().is_relative_to(top)


@pytest.mark.parametrize("case", at(Path("/")))
def test_a_tar_archive_does_no_harm(bench: Bench, case: str):
    (bench.away / "victim").write_text("untouched")
    archive = at(bench.away)[case]
    assert "extract: archive: '" in refused(bench, archive)  # the entry
    unharmed(bench)
    for pack in ("tar.gz", "tar.zst"):
        refused(bench, PACK[pack](archive))
    unharmed(bench)
    untar_naively(archive, _fresh(bench))
    assert (bench.away / "victim").read_text() == "harm", "this case is not hostile"


@pytest.mark.parametrize("case", ZIPPED)
def test_a_zip_archive_does_no_harm(bench: Bench, case: str):
    (bench.away / "victim").write_text("untouched")
    archive = ZIPPED[case](bench.away)
    refused(bench, archive)
    unharmed(bench)
    unzip_naively(archive, _fresh(bench))
    assert (bench.away / "victim").read_text() == "harm", "this case is not hostile"


def _fresh(bench: Bench) -> Path:
    shutil.rmtree(bench.work / "out", ignore_errors=True)
    (bench.work / "out").mkdir()
    return bench.work / "out"


def test_links_that_stand_there_already_are_not_written_through(bench: Bench):
    victim = bench.away / "victim"
    victim.write_text("untouched")
    out = _fresh(bench)
    (out / "d").symlink_to(bench.away)
    for members in ([file("d/victim")], [directory("d/new")], [directory("d")], [hardlink("h", "d/victim")]):
        refused(bench, tar(*members), "symbolic link")
    (out / "l").symlink_to(victim)
    os.link(victim, out / "h")
    assert extract(bench, tar(file("l", b"1"), file("h", b"2"))).code == 0
    assert victim.read_text() == "untouched"
    assert (out / "l").read_bytes() + (out / "h").read_bytes() == b"12"
    (bench.work / "away").symlink_to(bench.away)
    refused(bench, tar(file("victim")), "symbolic link out of", into="away/x")
    (bench.work / "stolen").symlink_to(bench.away / "victim")
    ended = bench.run("extract", {"path": "stolen"})
    assert (ended.code, "symbolic link out of" in ended.output) == (1, True)
    assert {each.name for each in bench.away.iterdir()} == {"victim"}


@pytest.mark.parametrize("kind", [tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, b"Z", b"V"])
def test_special_files_are_not_made(bench: Bench, kind: bytes):
    refused(bench, tar(file("f", b"1"), member("special", kind, devmajor=1, devminor=3)), "'special'", "a device, a FIFO")
    assert bench.files() == {"archive", "out/f"}
    refused(bench, zipped((zip_entry("special", stat.S_IFIFO | 0o644), b"")), "'special'")


def test_bits_that_lend_rights_are_dropped(bench: Bench):
    members = [directory("d", mode=0o7777), file("d/f", b"1", mode=0o6755), file("d/g", b"1", mode=0o1644)]
    out = extracted(bench, tar(*members))
    modes = [stat.S_IMODE((out / name).stat().st_mode) for name in ("d", "d/f", "d/g")]
    assert modes == [0o777, 0o755, 0o644]
    entry = zip_entry("f", 0o104755)
    assert stat.S_IMODE((extracted(bench, zipped((entry, b"1"))) / "f").stat().st_mode) == 0o755


def test_whoever_made_it_does_not_own_what_comes_out(bench: Bench):
    out = extracted(bench, tar(file("f", b"1", uid=12345, gid=12345)))
    assert (out / "f").stat().st_uid == os.geteuid()


def test_a_line_in_a_name_is_no_line_in_the_output(bench: Bench):
    refused(bench, tar(file("../a\nextract: all is well\x1b[2J")))


# -- too much


@pytest.mark.parametrize("kind", PACK)
def test_a_bomb_is_stopped_by_its_size(bench: Bench, kind: str):
    archive = PACK[kind](tar(file("small", b"1"), file("bomb", bytes(3_000_000))))
    refused(bench, archive, "'bomb'", "1000000 bytes allowed (maxBytes)", maxBytes=1_000_000)
    assert bench.files() == {"archive", "out/small"}
    assert extract(bench, archive, maxBytes=3_000_001).code == 0
    assert extract(bench, archive, maxBytes=3_000_000).code == 1
    refused(bench, archive, "(maxBytes)", maxBytes=1_000_000, stripComponents=1)  # nor may it be left out at length


def test_a_zip_bomb_is_counted_as_it_unpacks_whatever_it_says(bench: Bench):
    archive = bytearray(zipped(("bomb", bytes(3_000_000))))
    refused(bench, bytes(archive), "'bomb'", "(maxBytes)", maxBytes=1_000_000)
    size = struct.pack("<L", 3_000_000)
    while (place := archive.find(size)) >= 0:
        archive[place : place + 4] = struct.pack("<L", 1000)
    refused(bench, bytes(archive), "'bomb'", maxBytes=1_000_000)
    left = bench.work / "out/bomb"
    assert not left.exists() or left.stat().st_size <= 1_000_000


def test_what_comes_is_counted_and_not_what_was_said(tmp_path: Path):
    target = os.open(tmp_path, os.O_RDONLY)
    unpacking = Unpacking(target, strip=0, max_bytes=1000, max_entries=10)
    liar = Entry(name="f", kind=Kind.FILE, mode=None, mtime=None, size=1, content=lambda: io.BytesIO(bytes(1 << 20)))
    with pytest.raises(ActionFailed, match="maxBytes"):
        unpacking.put(liar, lambda: None)
    os.close(target)
    assert (tmp_path / "f").stat().st_size <= 1000


def test_a_file_of_holes_counts_as_long_as_it_says_it_is(bench: Bench):
    said = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "holes", "GNU.sparse.realsize": str(10**15)}
    archive = tar(file("x", b"0\n".ljust(512, b"\0"), pax_headers=said))
    refused(bench, archive, "'holes'", "(maxBytes)")


def test_a_bomb_is_stopped_by_its_entries(bench: Bench):
    archive = tar(*(file(f"{number}", b"") for number in range(30)))
    refused(bench, archive, "'20'", "20 entries allowed (maxEntries)", maxEntries=20)
    assert extract(bench, archive, maxEntries=30).code == 0
    refused(bench, zipped(*((f"{number}", b"") for number in range(30))), "(maxEntries)", maxEntries=29)
    # a directory that nobody has named is one, too
    deep = tar(file("d/" * 40 + "f"))
    refused(bench, deep, "(maxEntries)", maxEntries=40)
    assert extract(bench, deep, maxEntries=41).code == 0


def test_a_bomb_beside_the_files_is_stopped(bench: Bench):
    refused(bench, gzip.compress(tar(file("f", b"1")) + bytes(70 << 20), 1), "(maxBytes)", maxBytes=1000)


def header_bomb(kind: bytes, content: bytes) -> bytes:
    return tar(member("././@Long", kind, content), file("f", b"1"), form=tarfile.GNU_FORMAT)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE])
def test_a_header_has_a_length(bench: Bench, kind: bytes):
    refused(bench, gzip.compress(header_bomb(kind, bytes(2 << 20))), "headers of an entry are longer than 1048576")


def test_headers_of_headers(bench: Bench):
    refused(bench, tar(*(member("x", tarfile.XHDTYPE, b"9 a=bcde\n") for _ in range(2000)), file("f")), "damaged")
    many = [member("g", tarfile.XGLTYPE, b"%d k%d=v\n" % (len(str(n)) + 7, n)) for n in range(1000, 1200)]
    refused(bench, tar(*(each for pair in zip(many, [file("f")] * 200, strict=True) for each in pair)), "global headers")


# -- damaged


def negative() -> bytes:
    """A length below zero, which leads a reader that believes it back to where it was, for ever."""
    block = bytearray(tar(file("f", b"1"))[:512])
    block[124:136] = b"\xff" * 10 + b"\xfc\x00"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(2048)


DAMAGED = {
    "nothing": b"",
    "text": b"hello" * 1000,
    "a length below zero": negative(),
    "a damaged header": (lambda t: t[:1024] + b"x" + t[1025:])(tar(file("a", b"1"), file("b", b"2"))),
    "no end": tar(file("a", b"1"))[:1024],
    "rubbish in gzip": gzip.compress(b"hello" * 1000),
    "rubbish behind gzip": gzip.compress(tar(file("a", b"1"))) + b"rubbish" * 100,
    "a wrong sum in zip": zipped(("f", NOISE), method=zipfile.ZIP_STORED).replace(NOISE[:8], bytes(8)),
    "an old mark": b"PK\x03\x04" + bytes(100),
    "a wrong length in pax": tar(member("x", tarfile.XHDTYPE, b"99999 path=y\n"), file("f"), form=tarfile.GNU_FORMAT),
    "a number that is none in pax": tar(file("f", pax_headers={"size": "x" * 10}), form=tarfile.PAX_FORMAT),
    "a map of holes that is none": tar(file("x", b"", pax_headers={"GNU.sparse.map": "9,x,,", "GNU.sparse.size": "9"})),
}  # fmt: skip


@pytest.mark.parametrize("case", DAMAGED)
def test_what_is_damaged_is_told_from_what_is_whole(bench: Bench, case: str):
    told = refused(bench, DAMAGED[case])
    assert "Traceback" not in told


def test_encrypted_entries(bench: Bench):
    archive = zipped(("f", b"1"), ("geheim", b"2"))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = archive.rfind(mark) + offset
        archive = archive[:place] + b"\1" + archive[place + 1 :]
    refused(bench, archive, "'geheim' is encrypted")


@pytest.mark.parametrize("kind", [*PACK, "zip"])
def test_an_archive_that_was_cut_off_is_never_taken_for_a_whole_one(bench: Bench, kind: str):
    tree = tar(file("a", NOISE[:3000]), directory("d"), file("d/b", b"x" * 3000))
    archive = zipped(("a", NOISE[:3000]), ("b", b"x" * 3000)) if kind == "zip" else PACK[kind](tree)
    whole = len(archive.rstrip(b"\0")) + 511 if kind == "tar" else len(archive)  # an end mark is a block of zeros
    for length in {*random.Random(2).sample(range(1, whole), 8), whole - 1, 511, 512, 1024}:
        refused(bench, archive[:length])
    assert extract(bench, archive).code == 0


@pytest.mark.parametrize("kind", ["tar.gz", "tar.xz", "tar.zst"])
def test_a_damaged_byte_is_seen(bench: Bench, kind: str):
    archive = PACK[kind](tar(file("a", NOISE[:5000])))
    for place in random.Random(3).sample(range(len(archive) // 4, len(archive) - 30), 8):
        refused(bench, archive[:place] + bytes([archive[place] ^ 0x55]) + archive[place + 1 :])


def test_another_kind_than_was_said(bench: Bench):
    for said, archive in (("zip", TREE), ("tar", PACK["tar.gz"](TREE)), ("tar.xz", PACK["tar.gz"](TREE)), ("tar.zst", TREE), ("tar.gz", zipped(("f", b"")))):
        refused(bench, archive, "damaged", format=said)
    refused(bench, bz2.compress(TREE), "no archive of a known kind (tar, tar.gz")


def test_what_is_no_file(bench: Bench):
    (bench.work / "d").mkdir()
    os.mkfifo(bench.work / "fifo")
    for path, words in (("d", "not a regular file"), ("fifo", "not a regular file"), ("missing", "missing: No such file"),
                        ("../away/x", '".."'), ("/etc/passwd", "absolute")):  # fmt: skip
        ended = bench.run("extract", {"path": path})
        assert (ended.code, words in ended.output) == (1, True), ended


def test_a_file_where_a_directory_is_and_the_other_way_round(bench: Bench):
    refused(bench, tar(directory("d"), file("d")), "'d'", "directory")
    refused(bench, tar(file("f", b"1"), file("f/g")), "'f/g'", "not a directory")
    refused(bench, tar(hardlink("h", "missing")), "'missing', which is not there")
    refused(bench, tar(directory("d2"), hardlink("h", "d2")), "not a regular file")
    refused(bench, tar(file("n" * 256)), "more than 255 bytes")
    refused(bench, tar(file("n/" * 2050)), "longer than 4096 bytes")


# -- where links may lead


@pytest.mark.parametrize(
    ("target", "depth", "good"),
    [("a", 0, True), ("a/b/./c//d", 0, True), (".", 0, True), ("../a", 1, True), ("../../a", 2, True), ("./../a", 1, True),
     ("..", 1, True), ("..", 0, False), ("../a", 0, False), ("../../../a", 2, False), ("a/..", 3, False), ("../a/../b", 5, False),
     ("/a", 5, False), ("//a", 5, False), ("", 5, False), ("a\0b", 5, False), ("x" * 5000, 5, False), ("./../..", 1, False)],
)  # fmt: skip
def test_where_a_symbolic_link_may_lead(target: str, depth: int, good: bool):
    if good:
        check_target(target, depth)
    else:
        with pytest.raises(ActionFailed):
            check_target(target, depth)
