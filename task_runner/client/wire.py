"""Calls as httpx sends them, and what goes wrong with that: for both drivers."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from task_runner import __version__
from task_runner.client.calls import Call
from task_runner.client.errors import ConnectionBroken, ConnectionFailed, Silent, Untrusted
from task_runner.client.link import Link
from task_runner.client.steps import Answer
from task_runner.client.urls import split
from task_runner.errors import InvalidRequest

#: seconds to establish a connection
CONNECT = 10.0
#: a client that follows a thousand tasks has a thousand connections; idle ones are kept for a moment only:
#: gunicorn closes what is idle for 2 s (uvicorn: 5 s), and a request that was just on its way there would be lost
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=20, keepalive_expiry=1.0)


def socket(link: Link) -> dict[str, Any]:
    """The options of a transport, where it takes one of its own: to a Unix socket."""
    parts = split(link.url)
    return {"uds": parts.path, "limits": _LIMITS} if parts.scheme == "unix" else {}


def options(link: Link) -> dict[str, Any]:
    """The options of an httpx client of a daemon, beside its transport."""
    headers = {"User-Agent": f"task-runner/{__version__}", "Accept-Encoding": "identity"}
    if link.token is not None:
        if not link.token.isascii() or not link.token.isprintable():
            raise InvalidRequest.at("token", "a token is made of printable ASCII characters")
        headers["Authorization"] = f"Bearer {link.token}"
    scheme = split(link.url).scheme
    return {
        "base_url": "http://localhost" if scheme == "unix" else link.url,
        "headers": headers,
        # to verify means to read some hundred certificates first, for nothing where there is no TLS
        "verify": _trust(link.ca_file) if scheme == "https" else False,
        "limits": _LIMITS,
        "trust_env": not link.local,  # no proxy stands between a machine and itself
    }


def _trust(ca_file: str | None) -> ssl.SSLContext:
    """Whose certificates are good: with an address of this machine, too, those whom the environment names."""
    if ca_file is None:
        try:
            return httpx.create_ssl_context(trust_env=True)
        except OSError as error:
            name = next((each for each in ("SSL_CERT_FILE", "SSL_CERT_DIR") if os.environ.get(each)), None)
            if name is None:
                raise
            what = "no PEM file with certificates" if isinstance(error, ssl.SSLError) else error.strerror
            raise InvalidRequest.at(name, f"{os.environ[name]}: {what}") from None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except ssl.SSLError:
        raise InvalidRequest.at("ca_file", f"{ca_file} is no PEM file with certificates") from None
    except OSError as error:
        raise InvalidRequest.at("ca_file", f"{ca_file}: {error.strerror}") from None


def request(http: httpx.Client | httpx.AsyncClient, link: Link, call: Call) -> httpx.Request:
    """The request that a call is. Raises InvalidRequest where it cannot be one."""
    seconds = link.timeout + call.wait if call.silence is None else call.silence
    try:
        return http.build_request(
            call.method,
            call.path,
            params=tuple(call.query) or None,
            json=call.body,
            content=call.content,
            headers=call.headers,
            timeout=httpx.Timeout(seconds, connect=CONNECT),
        )
    except (ValueError, TypeError, httpx.InvalidURL) as error:  # not Unicode, not a finite number, no JSON
        raise InvalidRequest(f"this cannot be sent: {error}") from None


def answer(response: httpx.Response, body: bytes = b"") -> Answer:
    return Answer(response.status_code, response.headers, body)


@contextmanager
def faults(link: Link) -> Iterator[None]:
    """What httpx raises, in our words."""
    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as error:
        if (reason := _distrust(error)) is not None:
            raise Untrusted(
                f"the certificate of {link.url} is not trusted: {reason}. Whose certificates are good is said by "
                "SSL_CERT_FILE, a PEM file (Client(ca_file=…)); what stands in them is the name in the address"
            ) from None
        raise ConnectionFailed(
            f"cannot connect to {link.url}: {error}. Is the daemon running? "
            "Start it with `task-runner serve`, or say where it is with TASK_RUNNER_URL"
        ) from None
    except httpx.TimeoutException:
        raise Silent(f"{link.url} does not answer in time; `task-runner doctor` may know why") from None
    except httpx.RequestError as error:
        raise ConnectionBroken(f"the connection to {link.url} broke: {error}") from None


def _distrust(error: BaseException) -> str | None:
    """Why a certificate was refused, if that is what went wrong."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        cause = cause.__cause__ or cause.__context__
    return None
