"""Ports for programs that have to be told one."""

from __future__ import annotations

import random
import socket
from pathlib import Path

_CHANCE = random.SystemRandom()  # what is seeded draws the same in every worker


def free_port(host: str = "127.0.0.1", kind: int = socket.SOCK_STREAM) -> int:
    """One that nobody uses. It is none of those that the kernel gives to connections and to who binds to port 0: such
    a one may have another owner before the program binds to it."""
    lowest, _highest = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    candidates = range(10_000, lowest) if lowest > 11_000 else range(1)
    while True:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, kind) as probe:
            try:
                probe.bind((host, _CHANCE.choice(candidates)))
            except OSError:
                continue
            return int(probe.getsockname()[1])
