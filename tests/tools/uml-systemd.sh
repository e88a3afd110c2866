#!/bin/bash
# The first process of a User-Mode Linux whose root is this machine's, read-only: boots a real systemd on a throw-away
# overlay of it, with all of cgroup v2. On the kernel's command line: PROGRAM, shown as /opt/task-runner; PREFIX, that of
# the interpreter, made reachable for every user; UNITS, a directory with *.service, which are enabled, and *.sysusers.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
python3 - <<'EOF'
import ctypes, glob, os
for path in glob.glob(f"/usr/lib/uml/modules/{os.uname().release}/kernel/fs/overlayfs/overlay.ko"):
    ctypes.CDLL(None).syscall(313, os.open(path, os.O_RDONLY), b"", 0)  # finit_module
EOF
D=/mnt
R=$D/root
mount -t tmpfs -o size=256m,mode=755 tmpfs $D
mkdir $D/upper $D/work $R
mount -t overlay overlay -o lowerdir=/,upperdir=$D/upper,workdir=$D/work $R || { echo "no overlay"; echo o >/proc/sysrq-trigger; sleep 60; }
mount -t proc proc $R/proc
mount -t sysfs sysfs $R/sys
mount -t cgroup2 cgroup2 $R/sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs $R/run
mount -t tmpfs -o mode=1777 tmpfs $R/tmp
mount -t devtmpfs devtmpfs $R/dev

p=$PREFIX
while [ "$p" != / ]; do chmod a+x "$R$p"; p=$(dirname "$p"); done
rm -rf $R/var/lib/task-runner $R/etc/default/task-runner $R/opt/task-runner
mkdir -p $R/opt/task-runner $R/mnt/old
mount -t hostfs -o "$PROGRAM" none $R/opt/task-runner

E=$R/etc/systemd/system
rm -rf $E
mkdir -p $E/multi-user.target.wants
for u in systemd-udevd systemd-udev-trigger systemd-timesyncd systemd-logind getty@ console-getty systemd-pstore \
    systemd-journal-flush systemd-update-utmp; do
    ln -s /dev/null $E/$u.service
done
ln -s /lib/systemd/system/multi-user.target $E/default.target
for f in "$UNITS"/*; do
    case $f in
    *.sysusers) systemd-sysusers --root=$R "$f" ;;
    *) cp "$f" $E/; ln -s "../${f##*/}" $E/multi-user.target.wants/ ;;
    esac
done
rm -f $R/etc/machine-id
tr -dc a-f0-9 </dev/urandom | head -c 32 >$R/etc/machine-id
cd $R
pivot_root . mnt/old
cd /
umount -l /mnt/old
exec env -i PATH="$PATH" /lib/systemd/systemd --log-target=console --log-level=warning --show-status=false
