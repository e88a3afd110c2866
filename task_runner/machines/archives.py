"""Reading archives that strangers made: entry by entry. Of a zip archive the directory is in memory, as long as it is.

Headers are believed in nothing that costs (machines/unpacked.py). An archive that was cut off or damaged is told from
one that ended.
"""

from __future__ import annotations

import enum
import io
import math
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from task_runner.errors import ActionFailed
from task_runner.machines.unpacked import HEADER, Readable, Stream, damage, decompressed
from task_runner.model.machines import ArchiveFormat

#: global headers of a tar archive that are kept in mind
_MAX_GLOBAL = 100
#: of a link in a zip archive
_MAX_TARGET = 4096


class Kind(enum.Enum):
    """What an entry is to become."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"
    OTHER = "special file"


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """One entry, as the archive has it."""

    name: str
    kind: Kind
    #: permission bits; none: not said
    mode: int | None
    #: seconds since 1970; none: not said, or nonsense
    mtime: float | None
    #: where a link leads
    target: str = ""
    #: what the header says of its length
    size: int = 0
    #: opens its content
    content: Callable[[], Readable] = io.BytesIO


def recognise(file: BinaryIO) -> ArchiveFormat:
    """The format, by the content. Raises ActionFailed."""
    head = file.read(512)
    file.seek(0)
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return ArchiveFormat.ZIP
    if head.startswith(b"\x1f\x8b"):
        return ArchiveFormat.TAR_GZ
    if head.startswith(b"\xfd7zXZ\0"):
        return ArchiveFormat.TAR_XZ
    if head.startswith(b"\x28\xb5\x2f\xfd") or head[1:4] == b"\x2a\x4d\x18":
        return ArchiveFormat.TAR_ZST
    if head[257:262] == b"ustar" or _is_header(head):
        return ArchiveFormat.TAR
    raise ActionFailed("is no archive of a known kind (tar, tar.gz, tar.xz, tar.zst, zip)")


def _is_header(block: bytes) -> bool:
    """Whether a block is a header of an old tar archive, or the end mark of an empty one."""
    if len(block) < 512:
        return False
    try:
        tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
        return True
    except tarfile.HeaderError:
        return False
    return True


def entries(file: BinaryIO, kind: ArchiveFormat, limit: Callable[[int], None]) -> Iterator[Entry]:
    """The entries in order. An entry's content is to be read before the next is asked for.

    ``limit`` is called with the bytes that have been decompressed so far, and may raise. Raises ActionFailed.
    """
    if kind is ArchiveFormat.ZIP:
        return _zip_entries(file)
    return _tar_entries(Stream(decompressed(file, kind), limit))


# -- tar


class _Header(tarfile.TarInfo):
    """tarfile takes a damaged header for the end of the archive. The end is a block of zeros, and nothing else."""

    @classmethod
    def fromtarfile(cls, tarfile_: Any) -> Any:
        try:
            return super().fromtarfile(tarfile_)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
            raise
        except tarfile.EmptyHeaderError:  # type: ignore[attr-defined]
            raise ValueError("it has no end mark") from None
        except tarfile.HeaderError as error:
            raise ValueError(f"a header is damaged ({error})") from None


_TAR_KINDS = {
    **dict.fromkeys(tarfile.REGULAR_TYPES, Kind.FILE),
    tarfile.GNUTYPE_SPARSE: Kind.FILE,
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.LNKTYPE: Kind.HARDLINK,
}


def _tar_entries(stream: Stream) -> Iterator[Entry]:
    stream.header = HEADER
    with damage():
        archive = tarfile.TarFile(
            fileobj=stream,  # type: ignore[arg-type]
            tarinfo=_Header,
            encoding="utf-8",
            errors="surrogateescape",
        )
    while True:
        with damage():
            header = archive.next()
        archive.members.clear()  # type: ignore[attr-defined]  # it would keep them all
        if header is None:
            break
        if len(archive.pax_headers) > _MAX_GLOBAL:
            raise ActionFailed("the archive is damaged: it has too many global headers")
        stream.header = None
        yield _tar_entry(archive, header)
        stream.header = HEADER
    stream.header = None
    with damage():
        stream.finish()


def _tar_entry(archive: tarfile.TarFile, header: tarfile.TarInfo) -> Entry:
    kind = _TAR_KINDS.get(header.type, Kind.OTHER)

    def content() -> Readable:
        opened = archive.extractfile(header)
        assert opened is not None  # it is for directories and links alone
        return opened

    return Entry(
        name=header.name,
        kind=kind,
        mode=header.mode,
        mtime=_sane(header.mtime),
        target=header.linkname,
        size=header.size if kind is Kind.FILE else 0,
        content=content,
    )


def _sane(seconds: float) -> float | None:
    return seconds if math.isfinite(seconds) and -(2**31) <= seconds < 2**34 else None


# -- zip


def _zip_entries(file: BinaryIO) -> Iterator[Entry]:
    with damage():
        archive = zipfile.ZipFile(file)
    for info in archive.infolist():
        if info.flag_bits & 1:
            raise ActionFailed(f"{info.filename!r} is encrypted, and no password is known")
        with damage():
            entry = _zip_entry(archive, info)
        yield entry


def _zip_entry(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Entry:
    unix = info.external_attr >> 16 if info.create_system == 3 else 0
    kind, target = _zip_kind(info, unix), ""
    if kind is Kind.SYMLINK:
        with archive.open(info) as content:
            target = content.read(_MAX_TARGET + 1).decode("utf-8", "surrogateescape")
    return Entry(
        name=info.filename,
        kind=kind,
        mode=stat.S_IMODE(unix) or None,
        mtime=_zip_time(info),
        target=target,
        size=info.file_size if kind is Kind.FILE else 0,
        content=lambda: archive.open(info),
    )


def _zip_kind(info: zipfile.ZipInfo, unix: int) -> Kind:
    if info.is_dir() or stat.S_ISDIR(unix):
        return Kind.DIRECTORY
    if stat.S_ISLNK(unix):
        return Kind.SYMLINK
    return Kind.FILE if stat.S_IFMT(unix) in (0, stat.S_IFREG) else Kind.OTHER


def _zip_time(info: zipfile.ZipInfo) -> float | None:
    """Zip keeps the local time of who made it, and says nothing of where that was: it is taken for ours."""
    try:
        return time.mktime((*info.date_time, 0, 0, -1))
    except (ValueError, OverflowError):
        return None
