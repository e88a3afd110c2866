"""The file of Docker's `local` log driver: for the one thing that the API of Docker 20.10 does not tell.

Records of protocol buffers, each between its length and its length again (32 bits, the highest byte first). Fields of
a record: 1 the stream's name, 5 what is known of a piece of a line; the latter's field 1: it is the line's last.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

_NAMES = {1: b"stdout", 2: b"stderr"}
_LENGTH = 4


def ended_line(path: str, stream: int) -> bool:
    """Whether the last that the stream has is the last piece of a line that had been cut in pieces, newline and all.
    False where the file cannot be read."""
    try:
        with open(path, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            while size > 2 * _LENGTH:
                file.seek(size - _LENGTH)
                length = int.from_bytes(file.read(_LENGTH), "big")
                size -= length + 2 * _LENGTH
                file.seek(size + _LENGTH)
                fields = dict(_fields(file.read(length)))
                if fields.get(1) == _NAMES[stream]:
                    piece = fields.get(5)
                    return isinstance(piece, bytes) and bool(dict(_fields(piece)).get(1))
    except (OSError, ValueError, IndexError):
        pass  # not for us to read, or of another format
    return False


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """The fields of a message that are numbers or bytes. Raises ValueError, IndexError where it is none."""
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
            raise ValueError(key)


def _number(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
