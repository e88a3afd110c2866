#!/bin/bash
# The first process of a User-Mode Linux whose root is this machine's, read-only: runs SCRIPT of CHECKOUT (uml-tasks.py,
# unless it is told) with PYTHON (all on the kernel's command line) where cgroup v2 has all its controllers. /run is writable.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run LANG=C.UTF-8
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -t tmpfs tmpfs /run
cd /run
PYTHONPATH=$CHECKOUT PYTHONDONTWRITEBYTECODE=1 "$PYTHON" "$CHECKOUT/${SCRIPT:-tests/tools/uml-tasks.py}" /run/tasks 2>&1
echo o >/proc/sysrq-trigger
sleep 60
