"""File descriptors of a process that has just been forked."""

from __future__ import annotations

import os
from collections.abc import Collection


def close_all_but(kept: Collection[int]) -> None:
    """Close every descriptor but the three standard ones and these."""
    low = 3
    for fd in sorted(kept):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))
