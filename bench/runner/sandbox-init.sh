#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# sandbox-init.sh WORK PACKAGES STAGE - the first process of a sandbox, in namespaces of its own: builds a root directory on WORK/root
# from the host's /usr with the packages laid over it, the stage in /opt/postrider, and etc/, var/, home/ of WORK; starts
# rsyslogd there; says so in WORK/ready; and then only takes care of orphans.
set -e
work=$1 packages=$2 stage=$3
root=$work/root
mount --make-rprivate /
mount -t tmpfs -o mode=755 bench "$root"
cd "$root"
mkdir usr etc var home dev proc sys tmp run opt opt/postrider root
for link in bin sbin lib lib32 lib64 libx32; do
    [ ! -L "/$link" ] || cp -P "/$link" "$link"
done
mount -t overlay -o "ro,lowerdir=$packages/usr:/usr" bench usr
for d in etc var home; do mount --bind "$work/$d" "$d"; done
mount --bind "$stage" opt/postrider
mount -t proc proc proc
mount -t tmpfs -o mode=1777 bench tmp
mount -t tmpfs -o mode=755 bench run
mount -t tmpfs -o mode=755 bench dev
for d in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
    IFS=: read -r name major minor <<EOF
$d
EOF
    mknod -m 666 "dev/$name" c "$major" "$minor"
done
ln -s /proc/self/fd dev/fd
mkdir -m 1777 dev/shm run/lock
hostname mx.bench.test
ip link set lo up
ulimit -n 20000
# as systemd sets it on Debian: a new network namespace has the kernel's 10
echo 512 >proc/sys/net/unix/max_dgram_qlen
chroot . /usr/sbin/rsyslogd
: >"$work/ready"
# shellcheck disable=SC2016
exec chroot . /bin/sh -c 'while :; do sleep 3600; done'
