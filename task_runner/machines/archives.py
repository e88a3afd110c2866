"""Reading archives that strangers made: entry by entry, in a bounded piece of memory.

Headers are believed in nothing that costs: what is decompressed is counted where it comes out of the decompressor, and
no header may be longer than HEADER. An archive that was cut off or damaged is told from one that ended.
"""

from __future__ import annotations

import enum
import gzip
import io
import lzma
import math
import stat
import struct
import sys
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from task_runner.errors import ActionFailed
from task_runner.model.machines import ArchiveFormat

#: bytes that all headers of one entry may have
HEADER = 1 << 20
#: global headers of a tar archive that are kept in mind
_MAX_GLOBAL = 100
#: of a link in a zip archive
_MAX_TARGET = 4096
_PIECE = 1 << 16

#: what the readers of the standard library raise for an archive that is none
_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, struct.error,
    EOFError, ValueError, OverflowError, IndexError, KeyError,
)  # fmt: skip


class Kind(enum.Enum):
    """What an entry is to become."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symbolic link"
    HARDLINK = "hard link"
    OTHER = "special file"


class Readable(Protocol):
    """A source of bytes."""

    def read(self, size: int, /) -> bytes: ...


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
    return _tar_entries(Stream(_decompressed(file, kind), limit))


@contextmanager
def damage() -> Iterator[None]:
    """What a damaged archive makes its reader raise, as ActionFailed."""
    try:
        yield
    except (NotImplementedError, RuntimeError) as error:
        if isinstance(error, RecursionError):
            raise ActionFailed("the archive is damaged: headers of headers of headers") from None
        raise ActionFailed(f"the archive cannot be read: {error}") from None
    except _DAMAGE as error:
        raise ActionFailed(f"the archive is damaged or cut off: {error or type(error).__name__}") from None


# -- streams


def _decompressed(file: BinaryIO, kind: ArchiveFormat) -> Readable:
    if kind is ArchiveFormat.TAR_GZ:
        return gzip.GzipFile(fileobj=file, mode="rb")
    if kind is ArchiveFormat.TAR_XZ:
        return lzma.LZMAFile(file, format=lzma.FORMAT_XZ)
    if kind is ArchiveFormat.TAR_ZST:
        return _zstd(file)
    return file


def _zstd(file: BinaryIO) -> Readable:
    if sys.version_info >= (3, 14):
        from compression import zstd

        stream: Readable = zstd.ZstdFile(file)
        return stream
    return _Zstd(file)


class _Zstd:
    """Frames of zstd, by the package `zstandard`. Its own stream reader takes a frame that was cut off for a whole one.

    What one piece of input becomes is at most some 32,000 times as long, so pieces are small.
    """

    _INPUT = 1024

    def __init__(self, file: BinaryIO) -> None:
        import zstandard

        self._file = file
        self._damage = zstandard.ZstdError
        #: of a window beyond this the memory would be taken at once
        self._new = zstandard.ZstdDecompressor(max_window_size=1 << 27).decompressobj
        self._frame: Any = None
        self._input = self._output = b""
        self._taken = 0

    def read(self, size: int) -> bytes:
        while self._taken == len(self._output):
            if not self._more():
                return b""
        piece = self._output[self._taken : self._taken + size]
        self._taken += len(piece)
        return piece

    def _more(self) -> bool:
        data = self._input or self._file.read(self._INPUT)
        self._input = b""
        if not data:
            if self._frame is not None:
                raise EOFError("a frame of zstd has no end")
            return False
        if self._frame is None:
            self._frame = self._new()
        try:
            self._output, self._taken = self._frame.decompress(data), 0
        except self._damage as error:
            raise ValueError(str(error)) from None
        if self._frame.eof:
            self._input, self._frame = self._frame.unused_data, None
        return True


class Stream:
    """What tarfile reads from: goes forward only, counts, and lets no header be read that is too long."""

    def __init__(self, source: Readable, limit: Callable[[int], None]) -> None:
        self._source = source
        self._limit = limit
        self._position = 0
        #: bytes that may be read yet of headers; none: content is read
        self.header: int | None = None

    def tell(self) -> int:
        return self._position

    def seek(self, position: int) -> None:
        if position < self._position:
            raise ValueError("a header leads backwards")
        while self._position < position:
            if not self._take(min(_PIECE, position - self._position)):
                raise EOFError("it ends within an entry")

    def read(self, size: int) -> bytes:
        if self.header is not None:
            if not 0 <= size <= self.header:
                raise ValueError(f"the headers of an entry are longer than {HEADER} bytes")
            self.header -= size
        pieces, left = list[bytes](), size
        while left and (piece := self._take(min(_PIECE, left))):
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    def finish(self) -> None:
        """Read to the end: only there a decompressor knows whether all was right."""
        while self._take(_PIECE):
            pass

    def seekable(self) -> bool:
        return True

    def _take(self, size: int) -> bytes:
        piece = self._source.read(size)
        self._position += len(piece)
        self._limit(self._position)
        return piece


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
