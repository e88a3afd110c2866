"""What a container wrote, out of the file of Podman's `k8s-file` log driver.

    2026-11-21T16:00:05.483288736Z stdout F a whole line, without its newline
    2026-11-21T16:00:05.490646332Z stdout P a part of a line: no newline follows it
"""

from __future__ import annotations

_STREAMS = {b"stdout": 1, b"stderr": 2}


def whole_lines(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    """What the whole lines at the beginning say, as pairs of stream and bytes, and how many bytes they are."""
    end = data.rfind(b"\n") + 1
    return [_entry(line) for line in data[:end].split(b"\n")[:-1]], end


def _entry(line: bytes) -> tuple[int, bytes]:
    fields = line.split(b" ", 3)
    if len(fields) < 4 or fields[1] not in _STREAMS:
        return 2, line + b"\n"  # torn when the disk was full or the machine crashed: shown rather than left out
    return _STREAMS[fields[1]], fields[3] if fields[2] == b"P" else fields[3] + b"\n"
