"""HTTPCallSpec: how a config is fetched, with the credentials for that.

A credential is not kept in clear: it must be the value of a secret that the server knows, and only the name of that
secret is kept. So clients send what they always have, and whoever runs the server decides which values it may use.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from task_runner.api.dialects.drove import basic
from task_runner.api.dialects.drove.reader import EMPTY, Reader
from task_runner.api.dialects.drove.units import Duration

#: HTTPCallSpec.DEFAULT_TIMEOUT
_SECOND = Duration(1, "second")
_GOOD = [200]
_HOST = re.compile(r"[A-Za-z0-9._-]+|\[?[0-9A-Fa-f:.]+\]?")
#: names of headers whose values nobody should read
_PRIVATE = re.compile(
    r".*authorization|cookie|.*(token|secret|passw|api-?key|access-?key|credential|signature|session).*", re.IGNORECASE
)
#: values that are credentials whatever their header is called
_SHOWN = re.compile(r"(basic|bearer|digest|token)\s+\S.*", re.IGNORECASE | re.DOTALL)
#: bytes of the shortest value that is taken for a secret where it is not known to be one
_LEAST = 4
_CLEAR = (
    "- a credential is not kept in clear: make it a secret of the server (a file with just this value, of any name, in "
    "secrets_dir), and send the same request again"
)

#: the name of the server's secret that has this value
NameOf = Callable[[str], str | None]


def read(call: Reader, name_of: NameOf) -> dict[str, Any] | None:
    """`fetch` of a file; None after a fault."""
    protocol = call.word("protocol", ("HTTP", "HTTPS"), default="HTTP")
    host, port = call.text("hostname", missing=EMPTY), call.whole("port", 0, 65_535, default=0)
    verb = call.word("verb", ("GET", "POST", "PUT"), default="GET")
    connect = call.duration("connectionTimeout", default=_SECOND)
    operation = call.duration("operationTimeout", default=_SECOND)
    if host is not None and not _HOST.fullmatch(host):  # a URL could take more of it: a user with a password, say
        call.fault("hostname", "- the name or the address of a host is expected")
        return None
    codes, headers, payload = _codes(call), _headers(call, name_of), call.text("payload")
    if protocol is None or host is None or port is None or verb is None or connect is None or operation is None:
        return None
    return {
        "url": f"{protocol.lower()}://{_bracketed(host)}{f':{port}' if port else ''}{_path(call)}",
        "method": verb,
        "statuses": codes,
        "body": payload if verb != "GET" else None,
        "insecure": protocol == "HTTPS" and call.flag("insecure", default=False),
        "connectSeconds": connect.seconds or None,
        "timeoutSeconds": operation.seconds or _SECOND.seconds,
        **headers,
    }


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host and not host.startswith("[") else host


def _path(call: Reader) -> str:
    path = call.text("path") or "/"
    return path if path.startswith("/") else f"/{path}"


def _codes(call: Reader) -> list[int]:
    found = []
    for code in call.texts("successCodes"):
        if code.isascii() and code.isdigit() and 200 <= int(code) <= 599:
            found.append(int(code))
        else:
            call.fault("successCodes", f"- {code[:20]!r} is no status of an answer: 200 to 599 are")
    return sorted(set(found)) or _GOOD


# -- credentials: user and password are overruled by authHeader, and that by the header itself


def _headers(call: Reader, name_of: NameOf) -> dict[str, Any]:
    headers, secrets = dict[str, str](), dict[str, str]()
    told = dict[str, Any]()
    for header, value in call.table("headers").items():
        if header.lower() == "authorization":
            told = _authorization(call, f"headers.{header}", value, name_of)
        elif (name := name_of(value) if len(value.encode()) >= _LEAST else None) is not None:
            secrets[header] = name
        elif _PRIVATE.fullmatch(header) or _SHOWN.fullmatch(value):
            call.fault(f"headers.{header}", _CLEAR)
        else:
            headers[header] = value
    own = told or _own(call, name_of)
    return {**own, "headers": headers, "headerSecrets": {**secrets, **own.get("headerSecrets", {})}}


def _own(call: Reader, name_of: NameOf) -> dict[str, Any]:
    """From the fields for that."""
    username, password, header = call.text("username"), call.text("password"), call.text("authHeader")
    if header:
        return _authorization(call, "authHeader", header, name_of)
    if not username or not password:
        return {}
    if (name := name_of(password)) is None:
        call.fault("password", _CLEAR)
        return {}
    return {"username": username, "passwordSecret": name}


def _authorization(call: Reader, field: str, value: str, name_of: NameOf) -> dict[str, Any]:
    """What a value of Authorization means: the whole of it may be a secret, or the part that is one."""
    if (name := name_of(value)) is not None:
        return {"headerSecrets": {"Authorization": name}}
    scheme, _, rest = value.partition(" ")
    if scheme == "Bearer" and (name := name_of(rest)) is not None:
        return {"bearerSecret": name}
    if scheme.lower() == "basic" and (given := _basic(rest)) is not None and (name := name_of(given[1])) is not None:
        return {"username": given[0], "passwordSecret": name}
    call.fault(field, _CLEAR)
    return {}


def _basic(text: str) -> tuple[str, str] | None:
    pair = basic.pair_of(text)
    try:
        return None if pair is None else (pair[0].decode(), pair[1].decode())
    except UnicodeDecodeError:
        return None
