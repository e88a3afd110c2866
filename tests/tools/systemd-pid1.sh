#!/bin/bash
# systemd-pid1.sh DIRECTORY CGROUP PROGRAM PYTHON FILE...
#
# A real systemd as PID 1 of new pid, mount, network, uts, ipc and cgroup namespaces. Its root is a throw-away
# overlay of this machine's "/", its cgroups lie below CGROUP (an empty cgroup v2). Needs root; changes nothing
# outside DIRECTORY (an empty directory) and CGROUP. It ends with the process that this script becomes.
#
# PROGRAM is shown as /opt/task-runner; PYTHON, the prefix of the interpreter, is made reachable for every user;
# FILEs are units, put into /etc/systemd/system, and *.sysusers, of which users are made.
set -euo pipefail
export DIRECTORY=$1 CGROUP=$2 PROGRAM=$3 PYTHON=$4
shift 4
export FILES="$*"
echo $$ >"$CGROUP/cgroup.procs"
exec unshare --fork --kill-child --pid --mount --net --uts --ipc --cgroup --propagation private bash -euc '
mount -t tmpfs -o size=256m,mode=755 tmpfs $DIRECTORY
R=$DIRECTORY/root
mkdir $DIRECTORY/upper $DIRECTORY/work $R
mount -t overlay overlay -o lowerdir=/,upperdir=$DIRECTORY/upper,workdir=$DIRECTORY/work $R
mount -t proc proc $R/proc
mount -t sysfs -o ro sysfs $R/sys
mount -t cgroup2 cgroup2 $R/sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs $R/run
mount -t tmpfs -o mode=1777 tmpfs $R/tmp
mount -t tmpfs -o mode=755 tmpfs $R/dev
mkdir $R/dev/pts $R/dev/shm
for n in null zero full random urandom tty; do : >$R/dev/$n; mount --bind /dev/$n $R/dev/$n; done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts $R/dev/pts
ln -s pts/ptmx $R/dev/ptmx
mount -t tmpfs -o mode=1777 tmpfs $R/dev/shm
ln -s /proc/self/fd $R/dev/fd
for i in 0:stdin 1:stdout 2:stderr; do ln -s fd/${i%:*} $R/dev/${i#*:}; done

# an overlay does not show what is mounted below "/", and homes are closed to the user of the service
[ -e $R$PYTHON/bin ] || { mkdir -p $R$PYTHON; mount --bind $PYTHON $R$PYTHON; }
p=$(dirname $PYTHON)
while [ $p != / ]; do chmod a+x $R$p; p=$(dirname $p); done
rm -rf $R/var/lib/task-runner $R/etc/default/task-runner $R/opt/task-runner
mkdir -p $R/opt/task-runner
mount --bind $PROGRAM $R/opt/task-runner

E=$R/etc/systemd/system
rm -rf $E
mkdir -p $E/multi-user.target.wants
for u in systemd-udevd systemd-udev-trigger systemd-timesyncd systemd-logind getty@ console-getty systemd-pstore; do
    ln -s /dev/null $E/$u.service
done
ln -s /lib/systemd/system/multi-user.target $E/default.target
for f in $FILES; do
    case $f in
    *.sysusers) systemd-sysusers --root=$R $f ;;
    *) cp $f $E/; ln -s ../${f##*/} $E/multi-user.target.wants/ ;;
    esac
done
rm -f $R/etc/machine-id
tr -dc a-f0-9 </dev/urandom | head -c 32 >$R/etc/machine-id || true
mkdir -p $R/mnt/old
cd $R
pivot_root . mnt/old
cd /
umount -l /mnt/old
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --log-target=console --show-status=false'
