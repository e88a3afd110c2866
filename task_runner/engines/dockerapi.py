"""The Docker API on a socket of this machine, by its client library, with what that lacks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import docker
import requests
from docker import errors
from docker.constants import MINIMUM_DOCKER_API_VERSION
from urllib3.exceptions import ReadTimeoutError

from task_runner.engines.frames import frames
from task_runner.errors import EngineFailed

#: seconds for an answer that does not depend on what containers do
PATIENCE = 120.0
#: of Podman's own API, beside Docker's
_LIBPOD = "4.0.0"


def _version(socket: str) -> str:
    """Of the API that the engine speaks. The library would ask for all there is to know, which takes Podman 0.5 s."""
    with docker.APIClient(base_url=f"unix://{socket}", version=MINIMUM_DOCKER_API_VERSION, timeout=PATIENCE) as probe:
        probe.trust_env = False
        return str(probe.get(f"{probe.base_url}/_ping").headers.get("Api-Version", "auto"))


class Api:
    """One connection. `client` is the library's."""

    def __init__(self, name: str, socket: str) -> None:
        self._name = name
        self.socket = socket
        with self.asking():
            self.client = docker.APIClient(base_url=f"unix://{socket}", version=_version(socket), timeout=PATIENCE)
        self.client.trust_env = False

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """Around every call: raises EngineFailed for all that can be the matter, in the engine's words."""
        try:
            yield
        except errors.APIError as error:
            raise EngineFailed(str(error.explanation or error)) from error
        except (errors.DockerException, requests.RequestException) as error:
            raise EngineFailed(f"{self._name} does not answer at {self.socket}: {error}") from error

    def init(self, container: str) -> None:
        """Podman alone: make the control groups and the process that will become the container's own. What it cannot
        make it says again at the start."""
        with self.asking():
            url = f"{self.client.base_url}/v{_LIBPOD}/libpod/containers/{container}/init"
            self.client.post(url, timeout=PATIENCE)

    def inspect(self, container: str) -> dict[str, Any] | None:
        """Podman alone: what it says of a container in its own words; None where it is gone."""
        with self.asking():
            url = f"{self.client.base_url}/v{_LIBPOD}/libpod/containers/{container}/json"
            answer = self.client.get(url, timeout=PATIENCE)
            return dict(answer.json()) if answer.ok else None

    def wait(self, container: str, seconds: float, interval: str | None = None) -> None:
        """Returns when a container does not run any more, or after so many seconds. Podman looks every ``interval``."""
        params = {"condition": "not-running", **({"interval": interval} if interval else {})}
        with self.asking(), _suppressed_timeout():
            self.client.post(self._url(container, "wait"), params=params, timeout=(PATIENCE, seconds))

    def log(self, container: str, *, follow: bool) -> Iterator[tuple[int, bytes]]:
        """What a container wrote, as pairs of stream and bytes; nothing where it is gone."""
        params = {"stdout": "1", "stderr": "1", **({"follow": "1"} if follow else {})}
        timeout = (PATIENCE, None if follow else PATIENCE)
        with self.asking():
            answer = self.client.get(self._url(container, "logs"), params=params, stream=True, timeout=timeout)
            with answer:
                if answer.ok:
                    yield from frames(answer.iter_content(None))
                elif answer.status_code != requests.codes.not_found:
                    raise EngineFailed(answer.text.strip())

    def _url(self, container: str, verb: str) -> str:
        return f"{self.client.base_url}/v{self.client.api_version}/containers/{container}/{verb}"


@contextlib.contextmanager
def _suppressed_timeout() -> Iterator[None]:
    """Of the head of an answer or of its body, for which the library has different errors."""
    try:
        yield
    except requests.Timeout:
        pass
    except requests.ConnectionError as error:
        if not (error.args and isinstance(error.args[0], ReadTimeoutError)):
            raise
