"""What the encodings of standard streams have."""

from __future__ import annotations


def is_utf8(encoding: str) -> bool:
    """Whether it is the one that has everything."""
    return encoding.lower().replace("-", "") == "utf8"
