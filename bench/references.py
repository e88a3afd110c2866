"""Other programs that start commands, measured beside ours. Each is skipped by name where it is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from bench.daemon import ROOT

SLOTS = 4
LIMIT = 300.0
HERE = Path(__file__).parent


class Missing(Exception):
    """This reference cannot be had on this machine; the text says what is missing."""


def compile_c(source: str, directory: Path) -> str:
    """The path of a static program made of a C file beside this one. Raises Missing."""
    compiler = shutil.which("gcc")
    if compiler is None:
        raise Missing("gcc is not installed")
    target = directory / source.removesuffix(".c")
    command = [compiler, "-O2", "-static", "-o", str(target), str(HERE / source)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise Missing(f"gcc: {done.stderr.strip()[-200:]}")
    return str(target)


def spawn_loop(count: int, directory: Path) -> float:
    """Commands a second of a bare loop in C, one process a processor. Raises Missing."""
    program = compile_c("spawn_loop.c", directory)
    processes = len(os.sched_getaffinity(0))
    done = count // processes * processes
    output = _run([program, str(done), str(processes), _true()], directory)
    return done / float(output)


def hyperqueue(count: int, directory: Path) -> float:
    """Tasks a second of one HyperQueue job. Raises Missing."""
    if find_spec("hyperqueue") is None:
        raise Missing("the Python package hyperqueue is not installed (extra `bench`)")
    return float(_run([sys.executable, "-m", "bench.reference_hyperqueue", str(count), str(SLOTS)], directory))


def task_spooler(count: int, directory: Path) -> float:
    """Commands a second of task-spooler, from the first call of its client to all over. Raises Missing."""
    tsp = shutil.which("tsp")
    if tsp is None:
        raise Missing("tsp is not installed (Debian package task-spooler)")
    place = directory / "tsp"
    place.mkdir()
    env = {**os.environ, "TS_SOCKET": str(place / "socket"), "TMPDIR": str(place)}
    env.pop("TS_SAVELIST", None)
    try:
        _run([tsp, "-S", str(SLOTS)], place, env)
        start = time.monotonic()
        loop = f'i=0; while [ $i -lt {count} ]; do "{tsp}" true >/dev/null; i=$((i+1)); done'
        _run(["/bin/sh", "-c", loop], place, env)
        while any(word in _run([tsp], place, env) for word in ("running", "queued")):
            if time.monotonic() - start > LIMIT:
                raise Missing(f"tsp was not done within {LIMIT:.0f} s")
            time.sleep(0.01)
        return count / (time.monotonic() - start)
    finally:
        _run([tsp, "-K"], place, env)


def _true() -> str:
    return shutil.which("true") or "/bin/true"


def _run(command: list[str], directory: Path, env: dict[str, str] | None = None) -> str:
    """The output of a command; it is killed after LIMIT seconds. Raises Missing."""
    environment = {**(env or os.environ), "PYTHONPATH": str(ROOT)}
    try:
        done = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, text=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        raise Missing(f"{os.path.basename(command[0])} was not done within {LIMIT:.0f} s") from None
    if done.returncode != 0:
        raise Missing(f"{' '.join(command[:3])} failed: {done.stderr.strip()[-200:]}")
    return done.stdout.strip().rpartition("\n")[2] if command[0] == sys.executable else done.stdout
