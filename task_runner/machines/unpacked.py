"""The bytes of an archive, unpacked: counted where they come out of the decompressor, told to be whole at their end."""

from __future__ import annotations

import gzip
import lzma
import struct
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, Protocol

from task_runner.errors import ActionFailed
from task_runner.model.machines import ArchiveFormat

#: bytes that all headers of one entry may have
HEADER = 1 << 20
_PIECE = 1 << 16

#: what the readers of the standard library raise for an archive that is none
_DAMAGE = (
    tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, lzma.LZMAError, struct.error,
    EOFError, ValueError, OverflowError, IndexError, KeyError,
)  # fmt: skip


class Readable(Protocol):
    """A source of bytes."""

    def read(self, size: int, /) -> bytes: ...


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
        raise ActionFailed(f"the archive is damaged or cut off: {str(error) or type(error).__name__}") from None


def decompressed(file: BinaryIO, kind: ArchiveFormat) -> Readable:
    """The content of a file that is packed in this way; a tar archive that is not packed is its own."""
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
