"""What a container wrote, out of the file of Docker's `local` log driver.

Records of protocol buffers, each between its length and its length again (32 bits, the highest byte first). Fields of
a record: 1 the stream's name, 3 a line without its newline, 5 where that is a piece of a longer line; its field 1: the
piece ends that line.
"""

from __future__ import annotations

from collections.abc import Iterator

_STREAMS = {b"stdout": 1, b"stderr": 2}
_LENGTH = 4


def whole_records(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """What the whole records at the beginning say, as pairs of stream and bytes, and how many bytes they are. Raises
    ValueError, IndexError or KeyError where it is not that format."""
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
    stream, line, whole = 0, b"", True
    for field, value in _fields(record):
        if field == 1:
            stream = _STREAMS[bytes(value)]
        elif field == 3:
            line = value
        elif field == 5:
            whole = (1, b"\x01") in _fields(value)
    return stream, line + b"\n" if whole else line


def _fields(message: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and value of each field; a number's value is its bytes as they stand there."""
    at = 0
    while at < len(message):
        key = message[at]
        at += 1
        begin = at
        while message[at] >= 0x80:
            at += 1
        at += 1
        if key & 7 == 2:
            begin, at = at, at + _number(message[begin:at])
        elif key & 7 != 0:
            raise ValueError(f"a field of wire type {key & 7}")
        yield key >> 3, message[begin:at]


def _number(varint: bytes) -> int:
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(varint))
