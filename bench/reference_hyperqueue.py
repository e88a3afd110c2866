"""`python -m bench.reference_hyperqueue COUNT SLOTS`: one HyperQueue job of COUNT `true`; prints tasks a second.

A program of its own, since the cluster lives in threads of this process. It keeps its files in the current
directory. Its server has no journal: what it knows is not durable.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time

from hyperqueue import Job, LocalCluster
from hyperqueue.cluster import WorkerConfig


def main(count: int, slots: int) -> None:
    server = tempfile.mkdtemp(dir=os.getcwd())
    with LocalCluster(server, WorkerConfig(cores=slots)) as cluster:
        client = cluster.client()
        job = Job()
        for _ in range(count):
            job.program(["true"])
        start = time.monotonic()
        client.wait_for_jobs([client.submit(job)])
        rate = count / (time.monotonic() - start)
    print(rate)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
