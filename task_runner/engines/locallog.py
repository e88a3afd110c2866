"""What a container wrote, out of the file of Docker's `local` log driver.

Records of protocol buffers, each between its length and its length again (32 bits, the highest byte first). Fields of
a record: 1 the stream's name, 3 a line without its newline, 5 where that is a piece of a longer line; its field 1: the
piece ends that line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from task_runner.engines import crilog

_STREAMS = {b"stdout": 1, b"stderr": 2}
_LENGTH = 4


def follow(path: str, skip: tuple[int, int], ended: Callable[[], bool]) -> Iterator[tuple[int, bytes]]:
    """All but the first ``skip`` bytes of the two streams, as they come, until the container has ``ended`` and
    everything is read. Raises what ``ended`` raises. Needs the directory of the log, and not yet the log."""
    return crilog.follow(path, skip, ended, parse=parse)


def parse(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """What whole records say, as pairs of stream and bytes, and how many bytes they take. Raises ValueError, IndexError
    where it is not that format."""
    pairs = []
    at = 0
    while len(data) - at >= _LENGTH:
        begin = at + _LENGTH
        end = begin + int.from_bytes(data[at:begin], "big")
        if len(data) < end + _LENGTH:
            break
        pairs.append(_entry(data[begin:end]))
        at = end + _LENGTH
    return pairs, at


def _entry(record: bytes) -> tuple[int, bytes]:
    fields = dict(_fields(record))
    line, piece = fields.get(3, b""), fields.get(5)
    assert isinstance(line, bytes)
    whole = not isinstance(piece, bytes) or dict(_fields(piece)).get(1)
    return _STREAMS[fields[1]], line + b"\n" if whole else line  # type: ignore[index]


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        if key & 7 == 0:
            value, at = _number(message, at)
            yield key >> 3, value
        elif key & 7 == 2:
            length, at = _number(message, at)
            yield key >> 3, message[at : at + length]
            at += length
        else:
            raise ValueError(f"a field of wire type {key & 7}")


def _number(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
