"""`python -m bench`: prints the figures of the design beside their references, measured in this run."""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import figures
from bench.load import LoadError
from bench.system import describe
from bench.table import Report


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything started is ended
    directory = Path(tempfile.mkdtemp(prefix="task-runner-bench-", dir=options.directory))
    plan = figures.Plan(
        directory=directory,
        count=options.count,
        connections=options.connections,
        posts=options.posts,
        running=options.running,
    )
    report = Report({**describe(), "stateOn": _file_system(directory)})
    measurements = {1: figures.throughput, 2: figures.throughput, 3: figures.latency, 4: figures.memory}
    try:
        for measure in dict.fromkeys(measurements[line] for line in sorted(set(options.lines))):
            print(f"measuring {measure.__name__} …", file=sys.stderr, flush=True)
            measure(plan, report)
    except LoadError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    finally:
        # only now: files removed between two measurements would slow down the second (ext4 does not give the
        # number of a removed file away again for minutes, and searches past all such)
        shutil.rmtree(directory, ignore_errors=True)
    print(json.dumps(report.as_json(), indent=2) if options.json else report.as_text())
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--lines", type=_lines, default=[1, 2, 3, 4], help="which lines, as 1,3 (default: all)")
    parser.add_argument("--directory", help="where state directories are made; a real disk (default: the system's)")
    parser.add_argument("--count", type=_up_to(100_000), default=5000, help="commands of lines 1 and 2")
    parser.add_argument("--connections", type=_up_to(256), default=16, help="connections of lines 1 and 2")
    parser.add_argument("--posts", type=_up_to(10_000), default=300, help="posts of line 3")
    parser.add_argument("--running", type=_up_to(10_000), default=1000, help="running tasks of line 4")
    return parser.parse_args()


def _lines(text: str) -> list[int]:
    lines = [int(part) for part in text.split(",")]
    if not set(lines) <= {1, 2, 3, 4}:
        raise ValueError(text)
    return lines


def _up_to(most: int):  # type: ignore[no-untyped-def]
    def number(text: str) -> int:
        value = int(text)
        if not 2 <= value <= most:
            raise argparse.ArgumentTypeError(f"from 2 to {most}")
        return value

    return number


def _file_system(directory: Path) -> str:
    done = subprocess.run(["stat", "-f", "-c", "%T", directory], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "?"


if __name__ == "__main__":
    sys.exit(main())
