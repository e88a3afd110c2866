"""The output of a container, as the Docker API sends it: frames of a stream's number, a length and bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_HEADER = 8
#: Docker keeps lines longer than this in pieces of just this length
PIECE = 16_384


def frames(chunks: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Pairs of stream (1: stdout, 2: stderr) and bytes, from chunks that are cut anywhere. An unfinished frame at
    the end is left out."""
    buffer = bytearray()
    for chunk in chunks:
        buffer += chunk
        at = 0
        while len(buffer) - at >= _HEADER:
            end = at + _HEADER + int.from_bytes(buffer[at + 4 : at + _HEADER], "big")
            if len(buffer) < end:
                break
            yield buffer[at], bytes(buffer[at + _HEADER : end])
            at = end
        del buffer[:at]


def mended(pairs: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Puts back newlines that Docker's API loses, as far as they can be told.

    Docker 20.10 leaves out the newline of a line that it has kept in pieces; later ones do not. A piece that is not
    full ends its line, or else the stream: where more of the stream follows, a newline was there. Nobody can tell
    that at the end of a stream, or of a line that has just the length of some full pieces.
    """
    #: streams whose line goes on; and those whose line has ended, maybe with a newline that was lost
    open_lines: set[int] = set()
    bare: set[int] = set()
    for stream, data in pairs:
        if stream in bare:
            bare.discard(stream)
            yield stream, b"\n"
        if len(data) == PIECE and not data.endswith(b"\n"):
            open_lines.add(stream)
        elif stream in open_lines:
            open_lines.discard(stream)
            if not data.endswith(b"\n"):
                bare.add(stream)
        yield stream, data


def skipping(pairs: Iterable[tuple[int, bytes]], skip: dict[int, int]) -> Iterator[tuple[int, bytes]]:
    """All but the first bytes of each stream: so many as ``skip`` says, which is used up on the way."""
    for stream, data in pairs:
        if over := min(skip.get(stream, 0), len(data)):
            skip[stream] -= over
            data = data[over:]
        if data:
            yield stream, data
