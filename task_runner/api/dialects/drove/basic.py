"""Basic, a way to show a user and a password in the header Authorization (RFC 7617)."""

from __future__ import annotations

import base64


def pair_of(parameters: str) -> tuple[bytes, bytes] | None:
    """The user and the password in what stands behind "Basic"; None where that is no such thing.

    Bytes: which characters they are, nobody says, and a user in Latin-1 makes no password wrong.
    """
    try:
        user, colon, password = base64.b64decode(parameters.strip(), validate=True).partition(b":")
    except ValueError:  # no base64; or characters that are in no header of ASCII, of which it is no binascii.Error
        return None
    return (user, password) if colon else None
