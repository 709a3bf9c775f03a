#!/bin/bash
# Hosts with a kernel of their own (Debian's user-mode-linux: an ordinary process, no virtualisation needed),
# on a network of their own.  host1 exports an ext4 disk by the kernel's NFS server; the others mount it
# twice, hard and with default caching: at /mnt/v3 (NFSv3) and at /mnt/v4.2 (NFSv4.2).
#   uml.sh start  DIR N         boot host1 … hostN
#   uml.sh run    DIR hostK CMD  in the host, by ssh
#   uml.sh boot   DIR hostK     again, after a crash
#   uml.sh crash  DIR hostK     without power: kill its kernel, unplugged, so that its peers hear nothing of it
#   uml.sh freeze|thaw DIR hostK
#   uml.sh cut|heal    DIR hostK     unplug its network cable, and plug it in
#   uml.sh stop   DIR
# A host sees the machine's files read-only, DIR read-write (without any network), and the folders in BIND
# where its own /tmp, /run or /dev/shm would hide them.  GRACE: seconds of NFSv4 lease and grace.
cmd=${1:?}; shift
. "$(dirname "$0")/common.sh"
MEM=${MEM:-256M}; GRACE=${GRACE:-10}

addr() { echo 10.98.0.$((10+${1#host})); }
config() {
    mkdir -p $D/uml $D/nfsstate; chmod 755 $D
    truncate -s 256M $D/nfs.img; mkfs.ext4 -q -F $D/nfs.img
    ssh_key; sshd_config 22 0.0.0.0 /run/sshd.pid >$D/sshd_config
    { echo "127.0.0.1 localhost"; for k in $(seq 9); do echo "$(addr host$k) host$k"; done; } >$D/hosts
    { for k in $(seq 9); do echo "Host host$k"; echo "  HostName $(addr host$k)"; done; } | ssh_config >$D/ssh_config
    init >$D/init; chmod +x $D/init
}
init() { # the first program of each host
    cat <<I
#!/bin/bash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc; mount -t sysfs sysfs /sys
h=\$(sed 's/.*rf_host=\([^ ]*\).*/\1/' /proc/cmdline); hostname \$h
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts
for own in /dev/shm /run /mnt /tmp /var/tmp /var/lib/nfs; do mount -t tmpfs tmpfs \$own; done
mkdir -p /run/sshd /run/lock /mnt/export /mnt/v3 /mnt/v4.2 /var/lib/nfs/sm /var/lib/nfs/rpc_pipefs
mount -t hostfs none /lib/modules -o /usr/lib/uml/modules
for shown in ${BIND:-}; do mkdir -p \$shown 2>/dev/null; mount -r -t hostfs none \$shown -o \$shown; done
mkdir -p $D 2>/dev/null; mount -t hostfs none $D -o $D
mount --bind $D/hosts /etc/hosts
# sshd starts a shell that reads these, which may cost seconds
for f in /root/.bashrc /etc/bash.bashrc; do [ -e \$f ] && mount --bind /dev/null \$f; done
ip link set lo up; ip link set vec0 up; ip addr add 10.98.0.\$((10+\${h#host}))/24 dev vec0
rpcbind -w
if [ \$h = host1 ]; then
    mount --bind $D/nfsstate /var/lib/nfs
    mkdir -p /var/lib/nfs/v4recovery /var/lib/nfs/sm /var/lib/nfs/sm.bak; touch /var/lib/nfs/{etab,rmtab,xtab,state}
    mount /dev/ubda /mnt/export
    modprobe nfsd; mount -t nfsd nfsd /proc/fs/nfsd
    exportfs -o rw,sync,no_root_squash,no_subtree_check,insecure,fsid=0 '10.98.0.0/24:/mnt/export'
    rpc.statd --no-notify -P /var/lib/nfs 2>/dev/null
    rpc.mountd; rpc.nfsd --grace-time $GRACE --lease-time $GRACE 8
else
    modprobe nfs; modprobe nfsv4; modprobe nfsv3
    rpc.statd --no-notify 2>/dev/null
    for i in \$(seq 100); do mount -t nfs -o vers=4.2,hard host1:/ /mnt/v4.2 2>/run/mounterr && break; sleep 0.2; done
    mount -t nfs -o vers=3,hard host1:/mnt/export /mnt/v3 2>>/run/mounterr; cat /run/mounterr
fi
echo "\$h is ready \$(cut -d' ' -f1 /proc/uptime) s after its start"
/usr/sbin/sshd -D -e -f $D/sshd_config &      # last: a host that answers is ready
while :; do wait -n || sleep 0.2; done
I
}
boot() { # hostK
    local h=$1 disk=
    mkdir -p $D/$h
    in_net ip link show t-$h >/dev/null 2>&1 || in_net ip tuntap add t-$h mode tap
    in_net ip link set t-$h master br0 up
    [ $h = host1 ] && disk="ubd0=$D/nfs.img"
    local n=1 own
    for own in $D/$h.*.img; do [ -e $own ] && disk="$disk ubd$n=$own"; n=$((n+1)); done     # disks of its own
    # a session of its own: all processes of the host are traced by its kernel, and die with it
    TMPDIR=/dev/shm setsid nsenter --target $(cat $D/net.pid) --net linux.uml mem=$MEM umid=$h uml_dir=$D/uml \
        rootfstype=hostfs rootflags=/ ro init=$D/init $disk vec0:transport=tap,ifname=t-$h,depth=64,gro=0 \
        con=null con0=null,fd:1 con1=null quiet rf_host=$h >>$D/$h/console 2>&1 </dev/null &
    echo $! >$D/$h/pid
}
ssh_to() { in_net ssh -F $D/ssh_config "$@"; }
await_ssh() {
    local i
    for i in $(seq 300); do
        ssh_to -o ConnectTimeout=2 $1 true 2>/dev/null && return 0
        alive $D/$1/pid || break; sleep 0.1
    done
    tail -n 20 $D/$1/console >&2; return 1
}
kill_kernel() { # hostK
    alive $D/$1/pid || return 0
    local p=$(cat $D/$1/pid)
    kill -9 -- -$p 2>/dev/null || kill -9 $p
    await_gone $p; rm -rf $D/uml/$1
}

case $cmd in
start)
    case $D in /dev/*) echo "hosts have a /dev of their own: set TMPDIR to a folder that is not below /dev" >&2; exit 2;; esac
    mkdir -p $D; config; net_up
    in_net ip link add br0 type bridge; in_net ip addr add 10.98.0.1/24 dev br0; in_net ip link set br0 up
    for k in $(seq ${1:-2}); do boot host$k; done
    for k in $(seq ${1:-2}); do await_ssh host$k || exit 1; done
    for k in $(seq 2 ${1:-2}); do
        for m in v3 v4.2; do ssh_to host$k mountpoint /mnt/$m || { cat $D/host$k/console; exit 1; }; done
    done;;
run)    h=$1; shift; ssh_to $h "$@";;
boot)   boot $1; await_ssh $1;;
cut)    in_net ip link set t-$1 nomaster;;
heal)   in_net ip link set t-$1 master br0;;
freeze) kill -STOP $(cat $D/$1/pid);;         # the kernel alone: a SIGCONT to the processes that it traces ends it
thaw)   kill -CONT $(cat $D/$1/pid);;
crash)  in_net ip link set t-$1 nomaster; kill_kernel $1;;
stop)   for f in $D/host*/pid; do [ -e $f ] && kill_kernel $(basename $(dirname $f)); done; net_down;;
*)      echo "unknown: $cmd" >&2; exit 2;;
esac
