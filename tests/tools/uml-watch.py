"""Watches groups of cgroup v2 inside User-Mode Linux, and prints what became known of each, as a line of JSON."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
import threading
import time

from task_runner.engines import cgroupuse
from task_runner.engines.cgroupwatch import CgroupWatch

ROOT = "/sys/fs/cgroup"
HOG = "b = bytearray(80 << 20)"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOG!r}])"


def main() -> None:
    put(f"{ROOT}/cgroup.subtree_control", "+memory +pids +cpu")
    for case, code in (("hog", HOG), ("child", CHILD), ("modest", "pass")):
        group, process = begin(case, code)
        watch = CgroupWatch.of(process.pid)
        process.communicate(b"\n")
        tell(case, watch)
        remove(group)
    gone()


def gone() -> None:
    """As if the runtime removed the group before the watch wakes: nothing can be read of it any more."""
    group, process = begin("gone", f"{CHILD}; input()")
    read, seen = cgroupuse.oom_kills, threading.Event()

    def noted(groups: cgroupuse.Groups) -> int | None:
        kills = read(groups)
        if kills:
            seen.set()
        return kills

    cgroupuse.oom_kills = noted
    watch = CgroupWatch.of(process.pid)
    assert process.stdin is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    seen.wait(60)  # it wakes for that, while the process lives on
    put(f"{ROOT}/cgroup.procs", str(process.pid))
    remove(group)
    process.communicate(b"\n")
    tell("gone", watch)


def begin(case: str, code: str) -> tuple[str, subprocess.Popen[bytes]]:
    group = f"{ROOT}/{case}"
    os.mkdir(group)
    put(f"{group}/memory.max", str(20 << 20))
    process = subprocess.Popen([sys.executable, "-c", f"input(); {code}"], stdin=subprocess.PIPE)
    put(f"{group}/cgroup.procs", str(process.pid))
    return group, process


def remove(group: str) -> None:
    """Who has been killed is in it until it gets a processor to die on."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return os.rmdir(group)
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


def put(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def tell(case: str, watch: CgroupWatch) -> None:
    kills, accounting = watch.oom_kills(), watch.accounting()
    told = None if accounting is None else dataclasses.asdict(accounting)
    print("TOLD", json.dumps({"case": case, "kills": kills, "accounting": told}), flush=True)


main()
