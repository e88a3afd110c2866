"""The output of a container, as the Docker API sends it: frames of a stream's number, a length and bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

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


def mended(
    pairs: Iterable[tuple[int, bytes]], ended_line: Callable[[int], bool]
) -> Iterator[tuple[int, bytes]]:
    """Puts back the newlines that Docker loses.

    Its `local` log driver, the only one that keeps every byte, leaves out the newline of a line that it has kept in
    pieces (Docker 20.10; not the later ones). A piece that is not full ends its line, or else the whole stream: if
    more of the stream follows, a newline was there. Where none follows, ``ended_line`` is asked.
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
    for stream in bare:
        if ended_line(stream):
            yield stream, b"\n"


def skipping(pairs: Iterable[tuple[int, bytes]], skip: dict[int, int]) -> Iterator[tuple[int, bytes]]:
    """All but the first bytes of each stream: so many as ``skip`` says, which is used up on the way."""
    for stream, data in pairs:
        if over := min(skip.get(stream, 0), len(data)):
            skip[stream] -= over
            data = data[over:]
        if data:
            yield stream, data
