"""The certificate that the server shows, and its key: whether they can be used, before anything is served."""

from __future__ import annotations

import ssl

from task_runner.errors import Refused
from task_runner.service.settings import Settings


class _Locked(Exception):
    """A key wants a passphrase."""


def check(settings: Settings) -> None:
    """Raises Refused, which names the setting that is wrong. Neither of them: there is no TLS."""
    certificate, key = settings.tls_certificate, settings.tls_key
    if not certificate and not key:
        return
    if not certificate or not key:
        raise Refused("settings: tls_certificate and tls_key belong together")
    for name, path in (("tls_certificate", certificate), ("tls_key", key)):
        try:
            with open(path, "rb"):
                pass
        except OSError as error:
            raise Refused(f"settings: {name}: {path}: {error.strerror}") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_verify_locations(cafile=certificate)
    except ssl.SSLError:
        raise Refused(f"settings: tls_certificate: {certificate} is no PEM file with a certificate") from None
    try:
        context.load_cert_chain(certificate, key, password=_ask)
    except _Locked:
        raise Refused(f"settings: tls_key: {key} has a passphrase, and nobody is there to type it in") from None
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            raise Refused(f"settings: tls_key: {key} is not the key of the certificate {certificate}") from None
        found = "no PEM file with a private key" if error.library == "PEM" or error.reason is None else str(error)
        raise Refused(f"settings: tls_key: {key} cannot be used: {found}") from None


def _ask() -> str:
    raise _Locked
