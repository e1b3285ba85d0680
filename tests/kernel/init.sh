#!/bin/busybox sh
# The first process of the peer's kernel: loads what XFRM needs, then runs what the host asks for on ttyS0.
#
# A request is a line "TAG SECONDS OCTETS" and then so many octets of shell script; the answer is a line
# "TAG EXIT-CODE OCTETS" and then what the script printed. "#0 0 0" says that the kernel is up.
/bin/busybox mkdir -p /dev /proc /sys /run
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs -o mode=0700 run /run
mkdir /run/jobs

while read -r module; do insmod "/modules/$module" || echo "cannot load $module" >&2; done </modules/order
ip link set lo up

exec </dev/ttyS0 >/dev/ttyS0
stty raw -echo
printf '#0 0 0\n'
while read -r tag seconds octets; do
    head -c "$octets" >/run/script
    timeout -s KILL "$seconds" sh /run/script >/run/output 2>&1 </dev/null
    code=$?
    rm -f /run/script
    printf '%s %s %s\n' "$tag" "$code" "$(wc -c </run/output)"
    cat /run/output
done
# The host closed the line: nobody needs this kernel any more.
poweroff -f
