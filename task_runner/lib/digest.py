"""SHA-256 of a file without loading OpenSSL into every runner.

The module that Python builds itself is a hundred kilobytes and slow; hashlib brings a library of megabytes and is
fast. So hashlib is loaded for what is long, in a runner that is about to end.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

#: what is longer is worth loading the fast one
LONG = 1 << 20
#: of more the sum is not made: it would delay the ending by more than seconds
MOST = 1 << 30
_CHUNK = 1 << 18
_EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def _built_in() -> Any:
    for name in ("_sha2", "_sha256"):  # of Python 3.12 and later, and of earlier ones
        try:
            return __import__(name).sha256
        except (ImportError, AttributeError):
            pass
    return None  # this Python was built without


_small = _built_in()


def sha256_of(fd: int, parts: Iterable[tuple[int, int]]) -> str | None:
    """Of the bytes of a file from each start to before each end, one after the other.

    None where they are more than MOST, or not all there to be read. Raises OSError.
    """
    parts = list(parts)
    total = sum(end - start for start, end in parts)
    if total == 0:
        return _EMPTY
    if total > MOST:
        return None
    state = _new(total)
    for start, end in parts:
        while start < end:
            chunk = os.pread(fd, min(_CHUNK, end - start), start)
            if not chunk:
                return None
            state.update(chunk)
            start += len(chunk)
    return str(state.hexdigest())


def _new(total: int) -> Any:
    if _small is not None and total <= LONG:
        return _small()
    import hashlib  # here: see above

    return hashlib.sha256()
