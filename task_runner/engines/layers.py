"""How a pull gets on, from what the Docker API says of each layer of an image."""

from __future__ import annotations

from typing import Any

#: of the way of a layer: what is left is its unpacking
_FETCHED = 0.8
_STEPS = {
    "Pulling fs layer": 0.0,
    "Waiting": 0.0,
    "Verifying Checksum": _FETCHED,
    "Download complete": _FETCHED,
    "Pull complete": 1.0,
    "Already exists": 1.0,
}


class Layers:
    """Counts every layer alike: how large one is is known only when it comes."""

    def __init__(self) -> None:
        self._done: dict[str, float] = {}
        self._share = 0.0

    def hear(self, line: dict[str, Any]) -> tuple[str, float | None] | None:
        """One message of the engine; returns what to tell people of it: a text, and the share that is done, which
        never falls. None where there is no news."""
        status = str(line.get("status") or line.get("stream") or "").strip()
        layer = line.get("id")
        if not status:
            return None
        if not layer or not self._hear_layer(str(layer), status, line.get("progressDetail") or {}):
            return (f"{layer}: {status}" if layer else status), self.share
        return f"{layer}: {status}", self.share

    @property
    def share(self) -> float | None:
        """0 to 1; None where no layer is known."""
        if not self._done:
            return None
        self._share = max(self._share, sum(self._done.values()) / len(self._done))
        return self._share

    def _hear_layer(self, layer: str, status: str, detail: dict[str, Any]) -> bool:
        part = _part(detail)
        if status in _STEPS:
            done = _STEPS[status]
        elif status.startswith(("Downloading", "Copying")) and part is not None:
            done = part * _FETCHED
        elif status.startswith("Extracting") and part is not None:
            done = _FETCHED + part * (1 - _FETCHED)
        else:
            return False
        self._done[layer] = max(self._done.get(layer, 0.0), done)
        return True


def _part(detail: dict[str, Any]) -> float | None:
    current, total = detail.get("current"), detail.get("total")
    if not isinstance(current, int) or not isinstance(total, int) or total <= 0:
        return None
    return min(current / total, 1.0)
