"""A directory of a task as one archive, made while it is sent: no temporary file, a little memory, nothing followed.

Rule 1: a link is stored as a link. What is neither file, directory nor link is left out.
Rule 2: a file is opened beneath the directory at the moment it is packed, and its size is taken from what was opened.
        In a tar the size stands in front: a file that shrinks meanwhile is filled up with zeros, one that grows is
        cut. In a zip it stands behind.
Rule 3: whatever is not as it was, is said, in a last member of the archive (`NOTES`), which is there only then.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from task_runner.errors import Conflict
from task_runner.lib import beneath
from task_runner.lib.beneath import Kind, NotRegular
from task_runner.service.files import Entry, Parts, opened, shown, walk

FORMATS = ("tar", "tar.gz", "zip")
MEDIA_TYPES = {"tar": "application/x-tar", "tar.gz": "application/gzip", "zip": "application/zip"}
#: the name of the member that says what is missing or changed
NOTES = "task-runner-notes.txt"
#: the directory of a zip stands at its end and is kept in memory until then
MAX_ZIP_ENTRIES = 100_000

_CHUNK = 256 * 1024
_MAX_NOTES = 1000


class _Writer(Protocol):
    """One format of archive: each call yields what is to be sent."""

    def member(self, name: bytes, entry: Entry, size: int, content: Iterator[bytes]) -> Iterator[bytes]:
        """A file of so many bytes, a directory, or a link. ``content`` yields exactly ``size`` bytes, or fewer."""

    def end(self) -> Iterator[bytes]:
        """What closes the archive."""


def pack(work: str, parts: Parts, kind: str) -> Iterator[bytes]:
    """An archive of what is below a directory. Names in it begin below that directory.

    Blocks for the disk at every step. Raises NotFound where there is no working directory, Conflict for a zip of too
    many files.
    """
    writer: _Writer = _Zip() if kind == "zip" else _Tar()
    pieces = _pieces(work, parts, writer)
    return _compressed(pieces) if kind == "tar.gz" else _joined(pieces)


def count(work: str, parts: Parts, limit: int) -> int:
    """How many entries there are below a directory; counts no further than ``limit``."""
    with opened(work, parts) as root:
        return sum(1 for _entry, _number in zip(walk(root, parts, recursive=True), range(limit), strict=False))


def _pieces(work: str, parts: Parts, writer: _Writer) -> Iterator[bytes]:
    notes = _Notes()
    with opened(work, parts) as root:
        for entry in walk(root, parts, recursive=True):
            try:
                yield from _member(root, entry, b"/".join(entry.parts[len(parts) :]), writer, notes)
            except NotRegular as error:
                notes.add(entry.parts, f"left out: it is a {error.kind.value}")
            except (FileNotFoundError, NotADirectoryError):
                notes.add(entry.parts, "left out: it was removed meanwhile")
            except OSError as error:
                notes.add(entry.parts, f"left out: {error.strerror}")
    if text := notes.text():
        name = (f"{notes.prefix}{NOTES}").encode()
        about = Entry(parts=(name,), kind=Kind.FILE, size=len(text), modified_at=time.time(), mode=0o644)
        yield from writer.member(name, about, len(text), iter([text]))
    yield from writer.end()


def _member(root: int, entry: Entry, name: bytes, writer: _Writer, notes: _Notes) -> Iterator[bytes]:
    notes.seen(name)
    if entry.error is not None:
        notes.add(entry.parts, f"{'what is in it' if entry.kind else 'it'} is left out: {entry.error}")
    if entry.kind in (Kind.DIRECTORY, Kind.LINK):
        yield from writer.member(name, entry, 0, iter(()))
    if entry.kind in (Kind.DIRECTORY, Kind.LINK, None):
        return
    with io.FileIO(beneath.open_file(root, entry.parts)) as file:
        size = os.fstat(file.fileno()).st_size
        yield from writer.member(name, entry, size, _content(file, size, lambda what: notes.add(entry.parts, what)))


def _content(file: io.FileIO, size: int, note: Callable[[str], None]) -> Iterator[bytes]:
    """At most so many bytes of a file."""
    left = size
    while left > 0:
        try:
            chunk = file.read(min(_CHUNK, left))
        except OSError as error:
            note(f"only its first {size - left} bytes of {size} could be read: {error.strerror}")
            return
        if not chunk:
            note(f"only its first {size - left} bytes of {size} were there: it became shorter meanwhile")
            return
        left -= len(chunk)
        yield chunk
    if os.fstat(file.fileno()).st_size > size:
        note(f"its first {size} bytes: it became longer meanwhile")


class _Notes:
    """What an archive lacks; as many as fit."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._more = 0
        #: sets the name of the notes apart from those of the task's files
        self.prefix = ""

    def seen(self, name: bytes) -> None:
        """A name that is taken."""
        lead, notes, rest = name.partition(NOTES.encode())
        if notes and not rest and not lead.strip(b"_") and len(lead) >= len(self.prefix):
            self.prefix = "_" * (len(lead) + 1)

    def add(self, parts: Parts, what: str) -> None:
        if len(self._lines) < _MAX_NOTES:
            self._lines.append(f"{shown(parts)}: {what}\n")
        else:
            self._more += 1

    def text(self) -> bytes:
        rest = f"and {self._more} more\n" if self._more else ""
        return ("".join(self._lines) + rest).encode()


def _joined(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same bytes in larger pieces, since a header alone is not worth a packet; but no step takes long."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _CHUNK or len(waiting) >= 64:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _compressed(pieces: Iterator[bytes]) -> Iterator[bytes]:
    squeeze = zlib.compressobj(6, zlib.DEFLATED, 31)
    for piece in _joined(pieces):
        yield squeeze.compress(piece)
    yield squeeze.flush()


class _Tar:
    """GNU tar: names of any length and of any bytes, files of any size."""

    def member(self, name: bytes, entry: Entry, size: int, content: Iterator[bytes]) -> Iterator[bytes]:
        info = tarfile.TarInfo(os.fsdecode(name))
        info.size, info.mtime = size, int(entry.modified_at or 0)
        info.mode = _permissions(entry)
        if entry.kind is Kind.DIRECTORY:
            info.type = tarfile.DIRTYPE
        elif entry.kind is Kind.LINK:
            info.type, info.linkname = tarfile.SYMTYPE, os.fsdecode(entry.target or b"")
        yield info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        left = size
        for chunk in content:
            left -= len(chunk)
            yield chunk
        left += -size % tarfile.BLOCKSIZE
        while left > 0:
            yield bytes(min(left, _CHUNK))
            left -= _CHUNK

    def end(self) -> Iterator[bytes]:
        yield bytes(2 * tarfile.BLOCKSIZE)


class _Zip:
    """Zip with sizes behind each file, and 64 bits for all of them. Names that are not UTF-8 are stored as they are."""

    _LOCAL = struct.Struct("<4sHHHHHLLLHH")
    _CENTRAL = struct.Struct("<4sHHHHHHLLLHHHHHLL")
    #: in place of a number that stands elsewhere in 64 bits
    _BEHIND = 0xFFFFFFFF

    def __init__(self) -> None:
        self._at = 0
        self._count = 0
        self._directory = bytearray()

    def member(self, name: bytes, entry: Entry, size: int, content: Iterator[bytes]) -> Iterator[bytes]:
        del size
        if self._count >= MAX_ZIP_ENTRIES:
            raise Conflict(f"there are more than {MAX_ZIP_ENTRIES} files: too many for a zip, ask for tar.gz")
        self._count += 1
        if entry.kind is Kind.FILE:
            yield from self._file(name, entry, content)
        elif entry.kind is Kind.DIRECTORY:
            yield from self._short(name + b"/", entry, b"")
        else:
            yield from self._short(name, entry, entry.target or b"")

    def _file(self, name: bytes, entry: Entry, content: Iterator[bytes]) -> Iterator[bytes]:
        start, flags, when = self._at, 0x0008 | _text_flag(name), _dos_time(entry)
        extra = struct.pack("<HHQQ", 1, 16, 0, 0)
        yield self._sent(
            self._LOCAL.pack(b"PK\3\4", 45, flags, 8, *when, 0, self._BEHIND, self._BEHIND, len(name), len(extra))
            + name
            + extra
        )
        checksum = plain = packed = 0
        squeeze = zlib.compressobj(6, zlib.DEFLATED, -15)
        for chunk in content:
            checksum, plain = zlib.crc32(chunk, checksum), plain + len(chunk)
            data = squeeze.compress(chunk)
            packed += len(data)
            yield self._sent(data)
        rest = squeeze.flush()
        packed += len(rest)
        yield self._sent(rest + struct.pack("<4sLQQ", b"PK\7\x08", checksum, packed, plain))
        self._list(name, flags, 8, when, checksum, packed, plain, start, stat.S_IFREG | _permissions(entry))

    def _short(self, name: bytes, entry: Entry, content: bytes) -> Iterator[bytes]:
        """A directory or a link: what it holds is known before."""
        start, flags, when, checksum = self._at, _text_flag(name), _dos_time(entry), zlib.crc32(content)
        head = self._LOCAL.pack(b"PK\3\4", 20, flags, 0, *when, checksum, len(content), len(content), len(name), 0)
        yield self._sent(head + name + content)
        kind = stat.S_IFLNK if entry.kind is Kind.LINK else stat.S_IFDIR
        self._list(name, flags, 0, when, checksum, len(content), len(content), start, kind | _permissions(entry))

    def _list(
        self, name: bytes, flags: int, method: int, when: tuple[int, int], checksum: int, packed: int, plain: int,
        start: int, mode: int,
    ) -> None:  # fmt: skip
        extra = struct.pack("<HHQQQ", 1, 24, plain, packed, start)
        attributes = mode << 16 | (0x10 if stat.S_ISDIR(mode) else 0)
        self._directory += self._CENTRAL.pack(
            b"PK\1\2", 0x032D, 45, flags, method, *when, checksum, self._BEHIND, self._BEHIND,
            len(name), len(extra), 0, 0, 0, attributes, self._BEHIND,
        )  # fmt: skip
        self._directory += name + extra

    def _sent(self, data: bytes) -> bytes:
        self._at += len(data)
        return data

    def end(self) -> Iterator[bytes]:
        start, size = self._at, len(self._directory)
        yield bytes(self._directory)
        yield struct.pack("<4sQHHLLQQQQ", b"PK\6\6", 44, 0x032D, 45, 0, 0, self._count, self._count, size, start)
        yield struct.pack("<4sLQL", b"PK\6\7", 0, start + size, 1)
        yield struct.pack(
            "<4sHHHHLLH", b"PK\5\6", 0, 0, min(self._count, 0xFFFF), min(self._count, 0xFFFF),
            self._BEHIND, self._BEHIND, 0,
        )  # fmt: skip


def _permissions(entry: Entry) -> int:
    """Those for reading, writing and executing: who unpacks an archive as root wants no set-user-id program."""
    return (0o644 if entry.mode is None else entry.mode) & 0o777


def _text_flag(name: bytes) -> int:
    """The flag that says that a name is UTF-8, if it is."""
    try:
        name.decode()
    except UnicodeDecodeError:
        return 0
    return 0x0800


def _dos_time(entry: Entry) -> tuple[int, int]:
    """Time and date, UTC, in steps of two seconds from 1980 to 2107, which is all a zip can say."""
    seconds = min(max(entry.modified_at or 0, 315_532_800), 4_354_819_198)
    year, month, day, hour, minute, second = time.gmtime(seconds)[:6]
    return hour << 11 | minute << 5 | second // 2, (year - 1980) << 9 | month << 5 | day
