"""What people write after an option: times, durations, sizes, and pairs, read into what the spec has for them."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import click

#: bytes of a local file that fit into a request beside everything else
MAX_FILE = 2_500_000
#: characters that a file may have as text (model/terms.py)
MAX_TEXT = 1_048_576

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(?:([KMGT])(?:i?B)?|B)?", re.IGNORECASE)
_CLOCK = re.compile(r"([0-9]{1,2}):([0-9]{2})(?::([0-9]{2}))?")


def reading(read: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback for an option or argument: what ``read`` makes of its text; the error names the option."""

    def callback(ctx: click.Context, param: click.Parameter, value: Any) -> Any:
        try:
            if isinstance(value, tuple):
                return tuple(read(each) for each in value)
            return None if value is None else read(value)
        except ValueError as error:
            raise click.BadParameter(str(error), ctx, param) from None

    return callback


def duration(text: str) -> float:
    """Seconds: 90, 1.5, 10m, 1h30m, 2d. Raises ValueError."""
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text or (len(parts) > 1 and not parts[-1][1]):
        raise ValueError(f"{text!r} is no duration: seconds, or like 10m, 1h30m, 2d")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def some_duration(text: str) -> float:
    """A duration of more than nothing."""
    seconds = duration(text)
    if seconds == 0:
        raise ValueError("it must be more than 0")
    return seconds


def size(text: str, unit: int = 1) -> int:
    """Bytes: 65536, 64K, 1.5G; a bare number counts units of ``unit`` bytes. Raises ValueError."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size: a number, or like 64K, 10M, 1.5G")
    number, prefix = match.groups()
    scale = 1024 ** (" KMGT".index(prefix.upper())) if prefix else (1 if text.strip()[-1:] in "bB" else unit)
    return round(float(number) * scale)


def mebibytes(text: str) -> int:
    """MiB: 512, 512M, 4G; a part of one counts as a whole."""
    return -(-size(text, 1024**2) // 1024**2)


def moment(text: str, now: datetime | None = None) -> str | None:
    """A time as ISO 8601 in UTC; None for now. Raises ValueError.

    ISO 8601 (without a zone it is local time), seconds since 1970, +DURATION, or HH:MM: when clocks here say so next.
    """
    here = (now or datetime.now(UTC)).astimezone()
    if text in ("now", "0"):
        return None
    return _moment(text, here).astimezone(UTC).isoformat().replace("+00:00", "Z")


def _moment(text: str, here: datetime) -> datetime:
    try:
        if text.startswith("+"):
            return here + timedelta(seconds=duration(text[1:]))
        if match := _CLOCK.fullmatch(text):
            hour, minute, second = (int(part or 0) for part in match.groups())
            # by the wall clock: so the zone is left out while the day is changed
            wall = here.replace(tzinfo=None, hour=hour, minute=minute, second=second, microsecond=0)
            later = wall if wall.astimezone() > here else wall + timedelta(days=1)
            return later.astimezone()
        if re.fullmatch(r"[0-9]{5,}(\.[0-9]+)?", text):
            return datetime.fromtimestamp(float(text), UTC)
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError, OSError):
        raise ValueError(
            f"{text!r} is no time: now, +10m, 03:00, 2030-01-31T03:00, 2030-01-31T03:00:00Z, or seconds since 1970"
        ) from None


def pair(text: str) -> tuple[str, str]:
    """KEY=VALUE. Raises ValueError."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise ValueError(f"{text!r}: {'NAME=VALUE' if not equals else 'a name before the ='} is expected")
    return key, value


def after(text: str) -> dict[str, str]:
    """ID, or ID:end for whatever end. Raises ValueError."""
    task, colon, on = text.rpartition(":")
    if not colon:
        return {"task": text}
    if on not in ("success", "end") or not task:
        raise ValueError(f"{text!r}: ID, ID:success or ID:end is expected")
    return {"task": task, "on": on}


def stall(text: str) -> dict[str, Any]:
    """DURATION, or DURATION:stop. Raises ValueError."""
    seconds, colon, then = text.partition(":")
    if colon and then not in ("stop", "mark"):
        raise ValueError(f"{text!r}: DURATION, DURATION:stop or DURATION:mark is expected")
    return {"afterSeconds": some_duration(seconds), **({"then": then} if colon else {})}


def local_file(text: str) -> dict[str, str]:
    """LOCAL:PATH, or LOCAL: a file of this machine, its content and its permissions. Raises ValueError."""
    local, colon, path = text.rpartition(":")
    if not colon:
        local, path = text, os.path.basename(text)
    try:
        with open(local, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            data = file.read(MAX_FILE + 1)
    except (OSError, ValueError) as error:
        raise ValueError(f"{local!r} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MAX_FILE:
        raise ValueError(
            f"{local!r} has more than {MAX_FILE} bytes, which a request does not hold; "
            'let the server take it by "hostPath" or "fetch" (see the reference of the spec)'
        )
    return {"path": path, **_content(data), "mode": f"{mode:04o}"}


def _content(data: bytes) -> dict[str, str]:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None and len(text) <= MAX_TEXT:
        return {"text": text}
    return {"base64": base64.b64encode(data).decode()}
