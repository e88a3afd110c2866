"""A family of processes that are hard to get rid of: `family.py DIRECTORY MARKER KIND…`.

Each member makes a file DIRECTORY/<kind>.<pid> when it is settled. Whatever happens, all end by themselves after
LIFE seconds, and a storm ends after a fixed number of forks.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time

LIFE = 240
DEADLINE = time.monotonic() + LIFE
POLITE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
PR_SET_NAME = 15


def settle(kind: str) -> None:
    os.close(os.open(f"{sys.argv[1]}/{kind}.{os.getpid()}", os.O_CREAT | os.O_WRONLY, 0o600))


def live() -> None:
    while time.monotonic() < DEADLINE:
        time.sleep(1)


def deafen() -> None:
    for number in POLITE:
        signal.signal(number, signal.SIG_IGN)


def plain() -> None:
    settle("plain")
    live()


def deaf() -> None:
    deafen()
    settle("deaf")
    live()


def daemon() -> None:
    """Double fork with a session of its own: nobody's child any more."""
    if os.fork():
        return
    os.setsid()
    if os.fork():
        return
    deafen()
    os.chdir("/")
    settle("daemon")
    live()


def stopped() -> None:
    """Stops itself, again after every SIGCONT."""
    settle("stopped")
    while time.monotonic() < DEADLINE:
        os.kill(os.getpid(), signal.SIGSTOP)


def renamed() -> None:
    ctypes.CDLL(None).prctl(PR_SET_NAME, b"not (a) task) S", 0, 0, 0)
    deafen()
    settle("renamed")
    live()


def bare() -> None:
    """Nothing of the task's environment is left, another program, another name."""
    deafen()
    settle("bare")
    os.execve("/bin/sleep", [sys.argv[2], str(LIFE)], {})


def storm() -> None:
    """Doubles six times, then every process passes its life on to a child, at most 400 times each."""
    deafen()
    for _ in range(6):
        os.fork()
    settle("storm")
    for _ in range(400):
        if os.fork():
            os._exit(0)
        time.sleep(0.005)


KINDS = {member.__name__: member for member in (plain, deaf, daemon, stopped, renamed, bare, storm)}

if __name__ == "__main__":
    for name in sys.argv[3:]:
        if os.fork() == 0:
            KINDS[name]()
            os._exit(0)
    settle("parent")
    live()
